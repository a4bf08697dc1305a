"""Permanent addition of an expert or a merge to the weights of its base."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import kind_of, parse_config
from metro_fast.experts.compression.task_vector import TaskVector
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.loading.load import adapt, load_expert, load_whole, peft_config
from metro_fast.experts.loading.load_full import ModelT
from metro_fast.experts.plain.plain import plain_tensors

if TYPE_CHECKING:
    from peft import PeftModel


def add_to_base(
    model: ModelT,
    source: TaskVector | Expert | str | Path,
    *,
    initial: Mapping[str, Any] | str | Path | None = None,
) -> ModelT:
    """Add an expert, or a merge of several, to a model's weights.

    The result is an ordinary model: it has no adapter layers, and no other file has to be loaded
    with it. For a LoRA or IA3 adapter it equals the result of PEFT's `merge_and_unload`. A full
    residual is added to the weights, and its dense tensors (heads) replace those of the model.
    While this runs, the changed weights are in memory twice.

    Args:
        model: A transformers or torch model in its own precision; changed in place. If something
            does not fit, it is left unchanged.
        source: A task vector, for instance from `merge`, an `Expert`, or the path or Hub name of
            an expert.
        initial: For a full residual: the original base, if the model has other weights by now.

    Returns:
        The model, in evaluation mode, with the heads of `modules_to_save`.

    Raises:
        MissingExtraError: If peft is not installed.
        FileNotFoundError: If there is no expert at that path.
        FormatError: If it is damaged.
        MetroFastError: If it does not fit the model, the model is quantized or has adapters
            already, the sum is not finite, or the expert is a prompt, which cannot be added to
            any weight.

    Example:
        >>> import torch
        >>> from peft import LoraConfig, get_peft_model
        >>> from metro_fast.experts import compress, merge
        >>> def base():
        ...     return torch.nn.Sequential(torch.nn.Linear(4, 4))
        >>> config = LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
        >>> experts = [compress(get_peft_model(base(), config), density=0.5) for _ in range(2)]
        >>> add_to_base(base(), merge(experts))
        Sequential(
          (0): Linear(in_features=4, out_features=4, bias=True)
        )
    """
    peft = require("peft", "peft")
    if isinstance(model, peft.PeftModel):
        raise MetroFastError(
            "the model has adapters already: pass its base model, or call merge_and_unload() first"
        )
    if not isinstance(source, TaskVector):
        source = read_expert(source)
    if source.config is None:
        if isinstance(source, Expert):
            return load_whole(model, source, initial)
        return _add_residual(model, source, initial)
    if initial is not None:
        raise MetroFastError("initial is given, but this is an adapter, not a full residual")
    if kind_of(parse_config(source.config)) == "prompt":
        raise MetroFastError(
            "a prompt is read with every input, so no weight of the model can hold it: use "
            "load_expert"
        )
    quantization = getattr(model, "quantization_method", None)
    if quantization is not None:
        raise MetroFastError(
            f"the model is quantized ({quantization}): load it in its own precision, or keep the "
            "expert beside it with load_expert"
        )
    if isinstance(source, Expert):
        adapted: Any = load_expert(model, source)
    else:
        adapted = _load(peft, model, source, source.config)
    return _merged(model, adapted)


def _merged(model: ModelT, adapted: Any) -> ModelT:
    """The model with the weights of its only adapter added to its own."""
    # A safe merge creates new tensors, so these keep the model's own values.
    before = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        merged: ModelT = adapted.merge_and_unload(safe_merge=True).eval()
    except ValueError as error:  # PEFT found a sum that is not finite, after changing other modules
        for parameter, data in before:
            parameter.data = data
        adapted.unload()
        reason = " ".join(str(error).split())[:200]
        raise MetroFastError(
            f"a sum does not fit the model's dtype ({reason}): load the model in a wider dtype"
        ) from error
    return merged


def _load(peft: Any, model: Any, vector: TaskVector, config: bytes) -> "PeftModel":
    """The model with the vector as its adapter; on an error the model is left unchanged."""
    tensors = {name: tensor.torch() for name, tensor in plain_tensors(vector).items()}
    with ExitStack() as undo:
        try:
            adapted = adapt(peft, model, peft_config(peft, config), "default", undo)
        except ValueError as error:  # PEFT found none of the adapter's modules
            raise MetroFastError(f"the merge does not fit the model ({error})") from error
        places = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
        for name in sorted(set(tensors) | set(places)):
            ours, theirs = (tuple(t[name].shape) if name in t else None for t in (tensors, places))
            if ours != theirs:
                in_model = f"shape {theirs} in the model" if theirs else "no place in the model"
                raise MetroFastError(
                    f"the merge does not fit the model: {name} has "
                    f"{f'shape {ours}' if ours else 'no values'} in the merge, {in_model}"
                )
        peft.set_peft_model_state_dict(adapted, tensors)
        undo.pop_all()
    return adapted


def _add_residual(model: ModelT, vector: TaskVector, initial: Any) -> ModelT:
    state = model.state_dict()
    tensors = {
        name: tensor.torch()
        for name, tensor in plain_tensors(vector, state if initial is None else initial).items()
    }
    for name, tensor in tensors.items():
        shape = tuple(state[name].shape) if name in state else None
        if shape != tuple(tensor.shape):
            raise MetroFastError(
                f"{name} has shape {tuple(tensor.shape)} in the merge, {shape or 'no place'} in "
                "the model"
            )
    model.load_state_dict(tensors, strict=False)
    return model.eval()
