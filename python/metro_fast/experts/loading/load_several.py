"""Several experts in a model at once, each with a weight."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.loading.load import load_expert
from metro_fast.experts.merging.fits import check_kinds


def load_experts(
    model: Any,
    experts: Mapping[str, Expert | str | Path],
    weights: Mapping[str, float] | None = None,
) -> Any:
    """Put several experts into a model, all of them active.

    Each becomes an adapter of PEFT. The updates of LoRA experts add up, exactly and whatever their
    ranks, since none is merged with another; the vectors of IA3 experts multiply, as PEFT has it. A
    weight scales what an expert adds: B of a LoRA, the distance from 1 of an IA3 vector.

    Args:
        model: A transformers model, or a PeftModel without adapters of these names.
        experts: Experts, their paths or `hf://` names, by the names that their adapters get.
        weights: Of the experts; 1 where there is none.

    Returns:
        The PeftModel, in evaluation mode.

    Raises:
        MissingExtraError: If peft is not installed.
        MetroFastError: If there are none, a weight belongs to no expert or is not finite, they are
            not all LoRA or all IA3, or one does not fit; the model is then as it was.

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
    with ExitStack() as undo, torch.no_grad():
        adapted = model
        for name, expert in found.items():
            first = adapted
            adapted = load_expert(adapted, expert, name)
            if adapted is first:
                undo.callback(adapted.delete_adapter, name)
                # Before that: PEFT warns if the adapter that it deletes is active.
                undo.callback(adapted.set_adapter, next(iter(found)))
            else:
                undo.callback(adapted.base_model.unload)
                undo.callback(adapted.base_model.delete_adapter, name)
            _scale(adapted, name, (weights or {}).get(name, 1.0))
        adapted.base_model.set_adapter(list(found))
        adapted.requires_grad_(False)
        undo.pop_all()
    return adapted.eval()


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


def _scale(adapted: Any, name: str, weight: float) -> None:
    if weight == 1.0:
        return
    for layer in adapted.modules():
        for attribute, start in (("lora_B", 0.0), ("lora_embedding_B", 0.0), ("ia3_l", 1.0)):
            held = getattr(layer, attribute, None)
            if held is None or name not in held:
                continue
            values = held[name].weight if hasattr(held[name], "weight") else held[name]
            values.data.sub_(start).mul_(weight).add_(start)
