"""Loading of several weighted experts into one model."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import parse_config
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.loading.load import put
from metro_fast.experts.loading.settings import check_additive
from metro_fast.experts.loading.undo import Undo, all_or_nothing
from metro_fast.experts.merging.fits import check_kinds

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


def load_experts(
    model: "torch.nn.Module",
    experts: Mapping[str, Expert | str | Path],
    weights: Mapping[str, float] | None = None,
) -> "PeftModel":
    """Put several experts into a model, all of them active.

    Each becomes a PEFT adapter. The updates of LoRA experts add up exactly, for any ranks, because
    they are not merged with each other; the vectors of IA3 experts multiply, as in PEFT. A weight
    scales what an expert adds: B of a LoRA, or the distance of an IA3 vector from 1.

    Args:
        model: A transformers model, or a PeftModel without adapters of these names.
        experts: Experts, their paths or `hf://` names, by the names that their adapters get.
        weights: The weights of the experts by name; 1 for an expert that has none.

    Returns:
        The PeftModel, in evaluation mode.

    Raises:
        TypeError: If a source is not an expert or a path.
        MissingExtraError: If peft is not installed.
        MetroFastError: If no experts are given, a weight is not finite, too large for the dtype of
            the adapter or has an unknown name, the experts are not all LoRA or all IA3, two of them
            have a head, an update does not add up with others (aLoRA), or one does not fit; the
            model is left unchanged.

    Example:
        >>> import torch
        >>> from peft import LoraConfig, get_peft_model
        >>> from metro_fast.experts import compress
        >>> def base():
        ...     return torch.nn.Sequential(torch.nn.Linear(4, 4))
        >>> trained = get_peft_model(base(), LoraConfig(r=2, target_modules=["0"]))
        >>> expert = compress(trained, density=0.5)
        >>> model = load_experts(base(), {"a": expert, "b": expert}, {"b": 0.5})
        >>> model.active_adapters
        ['a', 'b']
    """
    torch = require("torch", "peft")
    found = {name: read_expert(source) for name, source in experts.items()}
    _check(found, weights or {})

    def work(undo: Undo) -> Any:
        adapted: Any = model
        for name, expert in found.items():
            adapted = put(adapted, expert, name, undo)
            _scale(adapted, name, (weights or {}).get(name, 1.0))
        _check_heads(adapted, found)
        adapted.base_model.set_adapter(list(found))
        adapted.requires_grad_(False)
        return adapted

    with torch.no_grad():
        return all_or_nothing(work)


def _check(experts: Mapping[str, Expert], weights: Mapping[str, float]) -> None:
    if not experts:
        raise MetroFastError("no experts are given, expected at least one")
    for name, weight in weights.items():
        if name not in experts:
            raise MetroFastError(
                f"weights has a weight for {name!r}, but the experts are {', '.join(experts)}"
            )
        if not -float("inf") < weight < float("inf"):
            raise MetroFastError(f"the weight of {name!r} is {weight}, expected a finite number")
    check_kinds(experts)
    for name, expert in experts.items():
        if expert.config is None:
            raise MetroFastError(
                f"expert {name!r} has no adapter_config.json, so PEFT cannot load it: use its "
                "state_dict()"
            )
        if len(experts) > 1 or weights.get(name, 1.0) != 1.0:
            check_additive(name, parse_config(expert.config))


def _check_heads(adapted: Any, names: Collection[str]) -> None:
    """Refuse two experts with a head: only one head of a model can answer."""
    from peft.utils import ModulesToSaveWrapper

    for path, module in adapted.named_modules():
        if not isinstance(module, ModulesToSaveWrapper):
            continue
        owners = [name for name in names if name in module.modules_to_save]
        if len(owners) > 1:
            raise MetroFastError(
                f"the experts {', '.join(map(repr, owners))} each bring their own "
                f"{path.removeprefix('base_model.model.')} (modules_to_save), and only one of them "
                "can answer: merge the experts with heads_from=, or load each into a model of its "
                "own"
            )


def _scale(adapted: Any, name: str, weight: float) -> None:
    if weight == 1.0:
        return
    for layer in adapted.modules():
        for attribute, start in (("lora_B", 0.0), ("lora_embedding_B", 0.0), ("ia3_l", 1.0)):
            adapters = getattr(layer, attribute, None)
            if adapters is None or name not in adapters:
                continue
            factor = adapters[name]
            values = [factor.weight, factor.bias] if hasattr(factor, "weight") else [factor]
            for tensor in values:
                if tensor is not None:  # B has a bias with lora_bias
                    tensor.data.sub_(start).mul_(weight).add_(start)
                    _check_finite(tensor, name, weight)


def _check_finite(tensor: "torch.Tensor", name: str, weight: float) -> None:
    if not bool(tensor.isfinite().all()):
        raise MetroFastError(
            f"the weight {weight:g} of {name!r} makes entries that {tensor.dtype} cannot hold: "
            "load the model in a wider dtype, or give a smaller weight"
        )
