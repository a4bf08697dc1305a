"""Creation of an adapter in a model, as PEFT creates it."""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metro_fast._shown import shown
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, kind_of, parse_config
from metro_fast.experts.loading.checks import check_base
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


def peft_config(peft: Any, config: bytes) -> "PeftConfig":
    """PEFT's configuration object for the bytes of an adapter_config.json.

    Raises:
        FormatError: If it is not a JSON object.
        MetroFastError: If it is of a kind that experts do not have, or PEFT does not accept its
            values.
    """
    kind_of(parse_config(config))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CONFIG).write_bytes(config)
        try:
            parsed = peft.PeftConfig.from_pretrained(folder)
        except _REFUSALS as error:
            raise MetroFastError(f"PEFT does not accept {CONFIG} ({one_line(error)})") from error
    parsed.inference_mode = True
    return parsed


def adapt(peft: Any, model: Any, config: "PeftConfig", adapter_name: str, undo: Undo) -> Adapted:
    """Put an adapter with random weights into a model.

    Args:
        peft: The module.
        model: A transformers model, or a PeftModel that gets one more adapter.
        config: PEFT's configuration of the adapter.
        adapter_name: The adapter's name; it becomes the active one.
        undo: Receives the step that puts the model back into its state.

    Returns:
        The PeftModel, and the parameters that are older than the adapter.

    Raises:
        MetroFastError: If the model's weights are elsewhere, it has an adapter of that name or a
            merged one, or PEFT cannot put the adapter into it. The model is unchanged once `undo`
            has run.
    """
    check_base(model)
    _check_adapters(peft, model, adapter_name)
    undo.callback(Snapshot(model).restore)
    old = list(model.parameters())
    try:
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
    return Adapted(adapted, old)


def one_line(error: BaseException) -> str:
    """The text of another library's error, in one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."


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
