"""A METRO model from a T5 that exists, and from a METRO checkpoint without silent differences."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForTextEncoding, PreTrainedModel

from metro_fast._pretrained import explained, load_seq2seq
from metro_fast.data import mask_vocabulary
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.metro.backbones import backbone_of
from metro_fast.metro.configuration import MetroConfig
from metro_fast.metro.options import OPTION_NAMES

AuxiliarySource = Literal["first_layers", "random"]

STRUCTURE = ("embedding_sharing", "tied_head", "rtd_head", "rtd_head_kind", "main", "auxiliary")
"""Settings that decide which weights a model has, and which of them are one."""

_FREE = frozenset(
    {
        "dropout_rate", "attention_dropout", "activation_dropout", "classifier_dropout",
        "use_cache", "dtype", "torch_dtype", "transformers_version", "architectures",
        "_name_or_path", "_attn_implementation", "layer_norm_epsilon", "initializer_factor",
    }
)  # fmt: skip
"""Settings of a sub-model that change no weight."""


_FIELDS = frozenset((*OPTION_NAMES, *STRUCTURE, "forbidden_token_ids", "sampling_seed"))
_HUB = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


def hub_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options of `from_pretrained` that say where files come from."""
    return {name: value for name, value in options.items() if name in _HUB}


def wanted_config(name: str | Path, options: dict[str, Any]) -> tuple[MetroConfig, dict[str, Any]]:
    """Read a checkpoint's config with the fields of `options` in place.

    Args:
        name: Folder, or name on the Hub.
        options: Fields of `MetroConfig`, or `config`, and options of `from_pretrained`.

    Returns:
        The config, and the options that are no fields of it.
    """
    rest = dict(options)
    given = rest.pop("config", None)
    if isinstance(given, MetroConfig):
        return given, rest
    fields = {field: rest.pop(field) for field in list(rest) if field in _FIELDS}
    if not fields:
        return MetroConfig.from_pretrained(name, **hub_options(options)), rest
    values = MetroConfig.from_pretrained(name, **hub_options(options)).to_dict()
    for part in ("main", "auxiliary"):
        if isinstance(fields.get(part), dict):
            fields[part] = values[part] | fields[part]
    values.pop("model_type")
    return MetroConfig(**(values | fields)), rest


def never_drawn(tokenizer: Any, vocab_size: int) -> list[int]:
    """The ids that are never drawn: special tokens, sentinels, and ids without a token.

    Args:
        tokenizer: A tokenizer of transformers.
        vocab_size: Number of ids that the model has.

    Raises:
        MetroFastError: If the tokenizer has an id that the model does not have.
    """
    used = set(tokenizer.get_vocab().values())
    if max(used) >= vocab_size:
        raise MetroFastError(
            f"the tokenizer has the id {max(used)}, but the model has {vocab_size} ids: give the "
            "tokenizer of the model, or resize the model first"
        )
    special = set(mask_vocabulary(tokenizer).special_token_ids or ())
    return sorted(special | set(range(vocab_size)) - used)


def differences(before: MetroConfig, now: MetroConfig) -> list[str]:
    """Name the settings in which two configs need other weights.

    Args:
        before: The config of a checkpoint.
        now: The config of a model that is to take its weights.

    Returns:
        "setting: value before, value now" for each.
    """
    found = []
    for name in STRUCTURE:
        old, new = getattr(before, name), getattr(now, name)
        if name not in ("main", "auxiliary"):
            if old != new:
                found.append(f"{name}: {old!r} before, {new!r} now")
            continue
        old, new = old.to_dict(), new.to_dict()
        found += [
            f"{name}.{key}: {old.get(key)!r} before, {new.get(key)!r} now"
            for key in sorted({*old, *new} - _FREE)
            if old.get(key) != new.get(key)
        ]
    return found


def check_loaded(info: dict[str, Any], name: str | Path) -> None:
    """Refuse weights that did not load whole.

    Args:
        info: The loading information of `from_pretrained`.
        name: The checkpoint, for the message.

    Raises:
        FormatError: If a weight is missing, superfluous or of another shape.
    """
    problems = [
        f"{kind} {', '.join(sorted(map(str, info[key]))[:3])} ({len(info[key])} in all)"
        for key, kind in (
            ("missing_keys", "without"),
            ("unexpected_keys", "with the unknown"),
            ("mismatched_keys", "with another shape of"),
        )
        if info.get(key)
    ]
    if problems:
        raise FormatError(
            f"{name} is not a METRO checkpoint of these settings: it comes {'; '.join(problems)}"
        )


def load_main(name: str | Path) -> tuple[PreTrainedModel, bool]:
    """Load an encoder-decoder, and find out whether its head is tied to its embeddings.

    Args:
        name: Folder, or name on the Hub.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no config.json.
        MetroFastError: If METRO does not support the architecture.
        FormatError: If a file is damaged, or a weight is missing.
        OSError: If the Hub does not have it, or cannot be reached.
    """
    with _without_tying_warning():
        main = load_seq2seq(name)
    backbone_of(main.config)
    tied = main.get_output_embeddings().weight is main.get_input_embeddings().weight
    return main, tied


def start_from(
    kind: Any,
    name: str | Path,
    *,
    source: AuxiliarySource | str | Path,
    tokenizer: Any,
    options: dict[str, Any],
) -> Any:
    """Make a METRO model around a T5 that exists; see `MetroForPretraining.from_t5`."""
    main, tied = load_main(name)
    if tokenizer is not None and "forbidden_token_ids" not in options:
        options["forbidden_token_ids"] = never_drawn(tokenizer, main.config.vocab_size)
    model = kind(MetroConfig(main=main.config, tied_head=tied, **options)).to(main.dtype)
    model.replace_main(main)
    fill_auxiliary(model, source)
    return model


def with_other_options(model: Any, config: MetroConfig) -> Any:
    """Move a loaded model's weights into one of other sharing or detection heads.

    Weights that become shared are the main model's; a new head starts at random.

    Args:
        model: `MetroForPretraining`.
        config: The settings of the model to make.

    Raises:
        MetroFastError: If the two differ in more than sharing and detection heads.
    """
    other = [
        line
        for line in differences(model.config, config)
        if line.partition(":")[0] not in ("embedding_sharing", "rtd_head", "rtd_head_kind")
    ]
    if other:
        raise MetroFastError(
            f"the checkpoint's sizes cannot be changed ({'; '.join(other)}): load it as it is, or "
            "start from its main model with from_t5"
        )
    made = type(model)(config).to(model.dtype)
    made.auxiliary.load_state_dict(model.auxiliary.state_dict())
    made.main.load_state_dict(model.main.state_dict())  # after it: shared weights are its own
    made.mlm_head.dense.load_state_dict(model.mlm_head.dense.state_dict())
    made.mlm_head.norm.load_state_dict(model.mlm_head.norm.state_dict())
    with torch.no_grad():
        made.mlm_head.projection.bias.copy_(model.mlm_head.projection.bias)
    for name in ("rtd_head", "rtd_decoder_head"):
        old, new = getattr(model, name), getattr(made, name)
        if (
            old is not None
            and new is not None
            and old.state_dict().keys() == new.state_dict().keys()
        ):
            new.load_state_dict(old.state_dict())
    return made


def fill_auxiliary(model: Any, source: AuxiliarySource | str | Path) -> None:
    """Give the auxiliary encoder of a model its first weights.

    Args:
        model: `MetroForPretraining` with a loaded main model.
        source: "first_layers" of the main encoder; "random"; or a folder or Hub name of an encoder.

    Raises:
        MetroFastError: If the weights do not fit, or a shared one differs from the main model's.
        FormatError: If a file is damaged.
    """
    if source == "random":
        _scale_to_table(model)
        return
    if source == "first_layers":
        state = _first_layers(model)
    else:
        with _without_tying_warning(), explained(f"the encoder at {source}"):
            state = AutoModelForTextEncoding.from_pretrained(source).state_dict()
    _check_fit(model, state, source)
    model.auxiliary.load_state_dict(state)
    _scale_to_table(model)


def _first_layers(model: Any) -> dict[str, torch.Tensor]:
    """The main encoder's weights by the auxiliary's names."""
    main = model.main.state_dict()
    return {name: main[name] for name in model.auxiliary.state_dict() if name in main}


def _check_fit(model: Any, state: dict[str, torch.Tensor], source: str | Path) -> None:
    own = model.auxiliary.state_dict()
    missing = sorted(set(own) - set(state))
    other = sorted(n for n in own if n in state and own[n].shape != state[n].shape)
    extra = sorted(set(state) - set(own))
    for names, what in ((missing, "lacks"), (other, "has another shape of"), (extra, "also has")):
        if names:
            raise MetroFastError(
                f"the auxiliary model cannot start from {source}: it {what} {', '.join(names[:3])} "
                f"({len(names)} in all); give `auxiliary` the sizes that it has, or start from "
                "'random'"
            )
    ties = model.backbone.ties(model.config.embedding_sharing, model.config.auxiliary)
    main = model.main.state_dict()
    for name, shared in ties.items():
        if not torch.equal(state[name], main[shared].to(state[name])):
            raise MetroFastError(
                f"the auxiliary model cannot start from {source}: embedding_sharing is "
                f"{model.config.embedding_sharing!r}, but its {name} differs from the main "
                f"model's {shared}, which would be overwritten; use embedding_sharing 'none'"
            )


@torch.no_grad()
def _scale_to_table(model: Any) -> None:
    """Set the gain of the MLM head's norm so that the first logits are of about unit size.

    Trained embeddings are larger than the N(0, 1) or smaller ones that a new head expects; those of
    the public T5 v1.1 checkpoints are about ten times as large.
    """
    table = model.mlm_head.projection.weight
    root_mean_square = table.float().square().mean().sqrt()
    unit = model.backbone.tied_scale(model.config.auxiliary) * table.shape[1] ** 0.5
    model.mlm_head.norm.weight.fill_(1 / max(float(root_mean_square) * unit, 1e-6))


@contextmanager
def _without_tying_warning() -> Iterator[None]:
    """Hide the advice of transformers about a head that is not tied, which METRO heeds anyway."""

    def keep(record: logging.LogRecord) -> bool:
        return "tied weights mapping" not in record.getMessage()

    log = logging.getLogger("transformers.modeling_utils")
    log.addFilter(keep)
    try:
        yield
    finally:
        log.removeFilter(keep)
