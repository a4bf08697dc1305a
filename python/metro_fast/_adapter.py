"""Plain PEFT adapters from a folder, whole or not at all."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast._pretrained import explained
from metro_fast.errors import FormatError
from metro_fast.experts.loading.embeddings import base_embeddings
from metro_fast.experts.loading.fill import saved_tensors
from metro_fast.experts.loading.snapshot import Snapshot, keep_values, put_back
from metro_fast.experts.loading.undo import Undo, all_or_nothing

if TYPE_CHECKING:
    from peft import PeftModel

__all__ = ["check_adapter_names", "load_adapter"]


def load_adapter(model: Any, folder: str | Path) -> "PeftModel":
    """Put the adapter of a PEFT folder onto a model.

    Outputs are those of `PeftModel.from_pretrained(model, folder)`, which leaves a missing weight
    at its start (where a LoRA changes nothing) with a warning, and drops one without a place.

    Args:
        model: A transformers model, which is changed in place; after any error it is as it was.
        folder: The folder of the adapter.

    Returns:
        The PeftModel, in evaluation mode.

    Raises:
        MissingExtraError: If peft is not installed.
        FormatError: If a file is damaged, or a weight is missing or has no place in the model.
        OSError: If a file is missing.

    Example:
        >>> import torch
        >>> from peft import LoraConfig, get_peft_model
        >>> def base():
        ...     return torch.nn.Sequential(torch.nn.Linear(4, 4))
        >>> adapted = get_peft_model(base(), LoraConfig(r=2, target_modules=["0"]))
        >>> adapted.save_pretrained("whole-adapter")
        >>> load_adapter(base(), "whole-adapter").active_adapter
        'default'
    """
    peft = require("peft", "peft")
    return all_or_nothing(lambda undo: _load(peft, model, folder, undo))


def _load(peft: Any, model: Any, folder: str | Path, undo: Undo) -> "PeftModel":
    with explained(f"the adapter at {folder}"):
        config = peft.PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        kind = peft.MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, peft.PeftModel)
        names = set(peft.load_peft_weights(str(folder), device="cpu"))
        undo.callback(Snapshot(model).restore)
        old = list(model.parameters())
        adapted = kind(model, config, "default")
        # Weights of the base that the file has too (embeddings, trained biases): PEFT writes them.
        saved = _saved(adapted, "default")
        written = {tensor.data_ptr() for tensor in saved.values()}
        embeddings = base_embeddings(adapted)
        written |= {p.data_ptr() for name, p in embeddings.items() if name in names}
        undo.callback(put_back, keep_values([p for p in old if p.data_ptr() in written]))
        # The weights of a prompt are not in PEFT's list of loaded names, but among those it saves.
        result = adapted.load_adapter(str(folder), "default")
    # PEFT marks the names of loaded weights with that of the adapter.
    missing = [name.replace(".default", "", 1) for name in result.missing_keys]
    unexpected = [name.replace(".default", "", 1) for name in result.unexpected_keys]
    _refuse(folder, missing, [name for name in unexpected if name not in saved])
    loaded: PeftModel = adapted.eval()
    return loaded


def check_adapter_names(adapted: Any, folder: Path, adapter_name: str) -> None:
    """Refuse the weights of an adapter that are not exactly those that a model's adapter has.

    Args:
        adapted: A PeftModel.
        folder: Folder with weights as PEFT writes them.
        adapter_name: Name of the model's adapter.

    Raises:
        FormatError: If the file is damaged, or a weight is missing or has no place in the model.
    """
    load_weights = require("peft", "peft").load_peft_weights
    with explained(f"the adapter at {folder}"):
        there = set(load_weights(str(folder), device="cpu"))
    saved = set(_saved(adapted, adapter_name))
    # The embeddings of a vocabulary that was resized are saved with the adapter.
    extra = there - saved - set(adapted.state_dict())
    _refuse(folder, sorted(saved - there), sorted(extra))


def _saved(adapted: Any, adapter_name: str) -> dict[str, Any]:
    """The tensors of an adapter, by the names that PEFT saves them under."""
    return saved_tensors(require("peft", "peft"), adapted, adapter_name)


def _refuse(folder: str | Path, missing: list[str], unexpected: list[str]) -> None:
    for names, verb in ((missing, "lacks"), (unexpected, "has no place in the model for its")):
        if names:
            count = f"{len(names)} weight{'' if len(names) == 1 else 's'} in all"
            raise FormatError(
                f"the adapter at {folder} {verb} {', '.join(sorted(names)[:3])} ({count}): it is "
                "damaged, or was made for another model"
            )
