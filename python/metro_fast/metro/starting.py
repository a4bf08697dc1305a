"""A METRO model from a T5 that exists."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import (
    AutoConfig,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from metro_fast._pretrained import check_source, check_weights, explained, load_seq2seq
from metro_fast._shown import quoted
from metro_fast._training.weight_types import REASON, widen_trained
from metro_fast.data import mask_vocabulary
from metro_fast.errors import MetroFastError
from metro_fast.metro.backbones import backbone_of
from metro_fast.metro.configuration import AUXILIARY, MetroConfig

logger = logging.getLogger(__name__)

AuxiliarySource = Literal["first_layers", "random"]

_SIZES = (
    "num_layers", "d_model", "d_kv", "d_ff", "num_heads", "feed_forward_proj", "dense_act_fn",
    "layer_norm_epsilon", "relative_attention_num_buckets", "relative_attention_max_distance",
    "max_position_embeddings",
)  # fmt: skip
"""Settings of an encoder that decide what its weights compute."""


def start_from(
    kind: Any,
    name: str | Path,
    *,
    source: AuxiliarySource | str | Path,
    tokenizer: Any,
    options: dict[str, Any],
) -> Any:
    """Make a METRO model around a T5 that exists; see `MetroForPretraining.from_t5`."""
    given = [option for option in ("main", "tied_head", "config") if option in options]
    if given:
        raise MetroFastError(
            f"{', '.join(given)} given, but the T5 at {name} decides that: leave it out"
        )
    main, tied = load_main(name, dtype=_load_as(options.get("dtype")))
    found = widen_trained(main) if options.pop("dtype", None) is None else ""
    if found:
        logger.warning("the weights of %s are %s, %s: they become float32", name, found, REASON)
    if tokenizer is not None and "forbidden_token_ids" not in options:
        options["forbidden_token_ids"] = never_drawn(tokenizer, main.config.vocab_size)
    sizes: dict[str, Any] = {}
    known = main.config.to_dict()
    encoder = None
    if source == "first_layers":
        sizes["num_layers"] = min(AUXILIARY["num_layers"], main.config.num_layers)
    elif source != "random":
        encoder = _load_encoder(source, main.config)
        sizes = {size: getattr(encoder.config, size) for size in _SIZES if size in known}
    options["auxiliary"] = sizes | (options["auxiliary"] or {})
    model = kind(MetroConfig(main=main.config, tied_head=tied, **options), main=main)
    _cast(model, main.dtype)
    if source == "first_layers":
        _fill_auxiliary(model, _first_layers(model), source)
    elif encoder is not None:
        _fill_auxiliary(model, encoder.state_dict(), source)
    _scale_to_table(model)
    return model


def _load_as(dtype: Any) -> Any:
    """The argument of `load_main`: None is the type of the checkpoint there."""
    return None if dtype == "auto" else dtype


def never_drawn(tokenizer: Any, vocab_size: int) -> list[int]:
    """The ids that are never drawn: special tokens, sentinels, and ids without a token.

    Args:
        tokenizer: A tokenizer of transformers.
        vocab_size: Number of ids that the model has.

    Raises:
        TypeError: If it is not a tokenizer.
        MetroFastError: If the tokenizer has an id that the model does not have.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise TypeError(
            f"tokenizer is {type(tokenizer).__name__}, expected a tokenizer of transformers, such "
            "as AutoTokenizer.from_pretrained gives"
        )
    used = set(tokenizer.get_vocab().values())
    if max(used) >= vocab_size:
        raise MetroFastError(
            f"the tokenizer has the id {max(used)}, but the model has {vocab_size} ids: give the "
            "tokenizer of the model, or resize the model first"
        )
    special = set(mask_vocabulary(tokenizer).special_token_ids or ())
    return sorted(special | set(range(vocab_size)) - used)


def load_main(name: str | Path, dtype: Any = None) -> tuple[PreTrainedModel, bool]:
    """Load an encoder-decoder, and find out whether its head is tied to its embeddings.

    Args:
        name: Folder, or name on the Hub.
        dtype: The type of its weights; None for that of the checkpoint.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no config.json.
        MetroFastError: If METRO does not support the architecture.
        FormatError: If a file is damaged, or a weight is missing or has no place.
        OSError: If the Hub does not have it, or cannot be reached.
    """
    with _without_tying_warning():
        main = load_seq2seq(name, dtype=dtype)
    backbone_of(main.config)
    tied = main.get_output_embeddings().weight is main.get_input_embeddings().weight
    return main, tied


def _load_encoder(name: str | Path, main: PreTrainedConfig) -> PreTrainedModel:
    known = get_args(AuxiliarySource)
    close = get_close_matches(str(name), known, n=1)
    if close:
        raise MetroFastError(
            f"auxiliary is {quoted(str(name))}, expected {' or '.join(known)}, or the folder or "
            f"Hub name of an encoder: did you mean {close[0]}?"
        )
    check_source(name)
    with _without_tying_warning(), explained(f"the encoder at {name}"):
        kind = AutoConfig.from_pretrained(name).model_type
        if kind != main.model_type:
            raise MetroFastError(
                f"the auxiliary model cannot start from {name}: it is a {kind}, expected a "
                f"{main.model_type} as the main model is"
            )
        encoder: PreTrainedModel
        encoder, info = AutoModelForTextEncoding.from_pretrained(name, output_loading_info=True)
    check_weights(info, name, part=True)  # a whole T5 is fine; its decoder is not used
    return encoder


def _cast(model: Any, dtype: torch.dtype) -> None:
    """Give the parts around the main model its type; transformers keeps `wo` of an fp16 T5 fp32."""
    for name, weight in model.named_parameters():
        if not (dtype == torch.float16 and ".wo." in name):
            weight.data = weight.data.to(dtype)


def _fill_auxiliary(model: Any, state: dict[str, torch.Tensor], source: str | Path) -> None:
    _check_fit(model, state, source)
    model.auxiliary.load_state_dict(state)


def _first_layers(model: Any) -> dict[str, torch.Tensor]:
    """The main encoder's weights by the auxiliary's names.

    Raises:
        MetroFastError: If the auxiliary encoder has more layers.
    """
    wanted, there = model.config.auxiliary.num_layers, model.config.main.num_layers
    if wanted > there:
        raise MetroFastError(
            f"auxiliary.num_layers is {wanted}, but the main encoder has {there} layers to start "
            f"from: set at most {there}, or start from 'random'"
        )
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
                f"{quoted(model.config.embedding_sharing)}, but its {name} differs from the main "
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
