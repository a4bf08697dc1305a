"""Plain PEFT adapters from a folder, whole or not at all."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast._pretrained import explained
from metro_fast.errors import FormatError

if TYPE_CHECKING:
    from peft import PeftModel

__all__ = ["check_adapter_names", "load_adapter"]


def load_adapter(model: Any, folder: str | Path) -> "PeftModel":
    """Put the adapter of a PEFT folder onto a model.

    Outputs are those of `PeftModel.from_pretrained(model, folder)`, which leaves a missing weight
    at its start (where a LoRA changes nothing) with a warning, and drops one without a place.

    Args:
        model: A transformers model, which is changed in place; after an error it is of no use.
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
    with explained(f"the adapter at {folder}"):
        config = peft.PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        kind = peft.MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, peft.PeftModel)
        adapted = kind(model, config, "default")
        # The weights of a prompt are not in PEFT's list of loaded names, but among those it saves.
        saved = _saved_names(adapted, "default")
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
    saved = _saved_names(adapted, adapter_name)
    # The embeddings of a vocabulary that was resized are saved with the adapter.
    extra = there - saved - set(adapted.state_dict())
    _refuse(folder, sorted(saved - there), sorted(extra))


def _saved_names(adapted: Any, adapter_name: str) -> set[str]:
    # The default, "auto", would ask the Hub whether the vocabulary was resized.
    return set(
        require("peft", "peft").get_peft_model_state_dict(
            adapted, adapter_name=adapter_name, save_embedding_layers=False
        )
    )


def _refuse(folder: str | Path, missing: list[str], unexpected: list[str]) -> None:
    for names, verb in ((missing, "lacks"), (unexpected, "has no place in the model for its")):
        if names:
            count = f"{len(names)} weight{'' if len(names) == 1 else 's'} in all"
            raise FormatError(
                f"the adapter at {folder} {verb} {', '.join(sorted(names)[:3])} ({count}): it is "
                "damaged, or was made for another model"
            )
