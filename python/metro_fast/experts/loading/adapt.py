"""Creation of an adapter in a model, as PEFT creates it."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from metro_fast._shown import shown
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, kind_of, parse_config
from metro_fast.experts.loading.checks import check_base
from metro_fast.experts.loading.config_fits import check_fits
from metro_fast.experts.loading.snapshot import Snapshot
from metro_fast.experts.loading.undo import Undo

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

_REFUSALS = (
    *(ValueError, TypeError, NotImplementedError, AttributeError, LookupError, AssertionError),
    re.error,
)
"""Errors of PEFT where a configuration does not suit a model: no target found, a kind of layer or
of adapter that cannot be combined, a rank that the groups of a convolution do not divide, a pattern
that is broken."""


class Adapted(NamedTuple):
    """A model with a new adapter.

    Attributes:
        model: The PeftModel.
        old: The parameters that the model had before.
    """

    model: "PeftModel"
    old: list[Any]


_NOT_FOR_PEFT = ("runtime_config", "megatron_config", "megatron_core")
"""Fields that PEFT does not take from a file, or with which it would import a module."""

_HOW_TO_START = ("eva_config", "corda_config", "lora_ga_config", "loftq_config")
"""Fields that say how training starts: PEFT reads no weights by them when it loads an adapter, but
checks them, and some name files."""


def peft_config(peft: Any, config: bytes) -> "PeftConfig":
    """PEFT's configuration object for the bytes of an adapter_config.json.

    PEFT gets the fields that were checked here, and not the file.

    Warns:
        UserWarning: If there are fields that PEFT does not know and therefore ignores.

    Raises:
        FormatError: If it is not a JSON object, or a field holds what it may not.
        MetroFastError: If it is of a kind that experts do not have, or PEFT does not accept its
            values.
    """
    given = parse_config(config)
    kind_of(given)
    try:
        kind = peft.PEFT_TYPE_TO_CONFIG_MAPPING[given["peft_type"]]
        known = {field.name for field in fields(kind)}
        _warn_of_unknown(peft, sorted(set(given) - known - {"runtime_config"}))
        own = {key: given[key] for key in given if key in known and key not in _NOT_FOR_PEFT}
        own |= {key: {} for key in _HOW_TO_START if own.get(key) is not None}
        parsed = peft.PeftConfig.from_peft_type(**own)
    except _REFUSALS as error:
        raise MetroFastError(f"PEFT does not accept {CONFIG} ({one_line(error)})") from error
    parsed.inference_mode = True
    return parsed


def _warn_of_unknown(peft: Any, names: list[str]) -> None:
    if names:
        warnings.warn(
            f"{CONFIG} has fields that PEFT {peft.__version__} does not know and ignores: "
            f"{shown(', '.join(names), 300)}. An older or newer PEFT may have written it",
            stacklevel=3,
        )


def adapt(
    peft: Any,
    model: Any,
    config: "PeftConfig",
    shapes: Mapping[str, tuple[int, ...]],
    adapter_name: str,
    undo: Undo,
) -> Adapted:
    """Put an adapter with random weights into a model.

    Args:
        peft: The module.
        model: A transformers model, or a PeftModel that gets one more adapter.
        config: PEFT's configuration of the adapter.
        shapes: The shapes of the tensors that are to be loaded, by name.
        adapter_name: The adapter's name; it becomes the active one.
        undo: Receives the step that puts the model back into its state.

    Returns:
        The PeftModel, and the parameters that are older than the adapter.

    Raises:
        FormatError: If a pattern of the configuration takes too long.
        MetroFastError: If the model's weights are elsewhere, it has an adapter of that name or a
            merged one, or PEFT cannot put the adapter into it. The model is unchanged once `undo`
            has run.
    """
    check_base(model)
    _check_adapters(peft, model, adapter_name)
    check_fits(config, model, shapes)
    undo.callback(Snapshot(model).restore)
    old = list(model.parameters())
    start = getattr(config, "init_lora_weights", None)
    try:
        if isinstance(start, str):
            # The weights are overwritten, so that how they start would only be computed in vain.
            config.init_lora_weights = True
        if isinstance(model, peft.PeftModel):
            model.add_adapter(adapter_name, config, autocast_adapter_dtype=False)
            model.set_adapter(adapter_name, inference_mode=True)
            return Adapted(model, old)
        kind = peft.MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, peft.PeftModel)
        adapted = kind(model, config, adapter_name, autocast_adapter_dtype=False)
    except _REFUSALS as error:
        made_for = shown(config.base_model_name_or_path or "a model that it does not name")
        raise MetroFastError(
            f"the adapter does not fit the model ({one_line(error)}): it was made for {made_for}, "
            "is this that model?"
        ) from error
    finally:
        if isinstance(start, str):
            config.init_lora_weights = start
    return Adapted(adapted, old)


def one_line(error: BaseException) -> str:
    """The text of another library's error, in one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return shown(text, 300)


def has_adapters(model: Any) -> bool:
    """Whether PEFT's layers are in a model, whoever put them there."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    return any(isinstance(module, kinds) for module in model.modules())


def _check_adapters(peft: Any, model: Any, adapter_name: str) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    if isinstance(model, peft.PeftMixedModel):
        raise MetroFastError(
            "the model is a PeftMixedModel, which PEFT's loading of adapters does not cover: pass "
            "its base model, get_base_model() after unload()"
        )
    if adapter_name in (getattr(model, "peft_config", None) or {}):
        raise MetroFastError(
            f"the model has an adapter {adapter_name!r} already: choose another adapter_name"
        )
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer) and module.merged:
            raise MetroFastError(
                f"an adapter is merged into the weights of {name}, and PEFT would subtract it "
                "again: call unmerge_adapter() first, or merge_and_unload() to keep it there"
            )
