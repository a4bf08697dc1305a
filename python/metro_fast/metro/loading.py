"""A METRO model from a METRO checkpoint, without silent differences."""

from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.utils import cached_file

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.metro.configuration import FIELDS, MetroConfig

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
        The config, and the options that are not fields of it.
    """
    rest = dict(options)
    given = rest.pop("config", None)
    fields = {field: rest.pop(field) for field in list(rest) if field in FIELDS}
    if isinstance(given, MetroConfig):
        if fields:
            raise MetroFastError(
                f"config is given, and {', '.join(fields)} too: set it in the config itself"
            )
        return given, rest
    if given is not None and not isinstance(given, str | Path):
        raise TypeError(f"config is {type(given).__name__}, expected a MetroConfig or its folder")
    source = name if given is None else given
    return MetroConfig.from_pretrained(source, **hub_options(options), **fields), rest


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
                found.append(f"{name}: {quoted(old)} before, {quoted(new)} now")
            continue
        old, new = old.to_dict(), new.to_dict()
        found += [
            f"{name}.{key}: {quoted(old.get(key))} before, {quoted(new.get(key))} now"
            for key in sorted({*old, *new} - _FREE)
            if old.get(key) != new.get(key)
        ]
    return found


def take_generation_settings(model: Any, name: str | Path, options: dict[str, Any]) -> None:
    """Give the main model the settings of generation that the checkpoint has, if it has any.

    Args:
        model: `MetroForPretraining`.
        name: The checkpoint, a folder or a name on the Hub.
        options: The options of `from_pretrained`.
    """
    hub = hub_options(options)
    file = "generation_config.json"
    if cached_file(name, file, _raise_exceptions_for_missing_entries=False, **hub) is not None:
        model.main.generation_config = GenerationConfig.from_pretrained(name, **hub)


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
    made = type(model)(config).to(device=model.device, dtype=model.dtype)
    made.set_attn_implementation(model.config._attn_implementation)
    made.main.generation_config = model.main.generation_config
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
    return made.eval()  # as transformers loads every model
