"""An expert or a merge added to the weights of its base for good."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import kind_of, parse_config
from metro_fast.experts.compression.task_vector import TaskVector
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.loading.load import adapt, load_expert, peft_config
from metro_fast.experts.plain.plain import plain_tensors


def add_to_base(
    model: Any,
    source: "TaskVector | Expert | str | Path",
    *,
    initial: Mapping[str, Any] | str | Path | None = None,
) -> Any:
    """Add an expert, or a merge of several, to a model's weights.

    The result is an ordinary model: no adapter layers, nothing to load beside it. Of a LoRA or IA3
    adapter this is what PEFT's `merge_and_unload` makes of it; a full residual is added to the
    weights, its dense tensors (heads) replace the model's. While it runs, the changed weights are
    in memory twice.

    Args:
        model: A transformers or torch model in its own precision; changed in place. If something
            does not fit, it is left as it was.
        source: What `merge` returned, an `Expert`, or the path or Hub name of one.
        initial: Of a full residual: the pristine base, if the model has other weights by now.

    Returns:
        The model, in evaluation mode; heads of `modules_to_save` are in it.

    Raises:
        MissingExtraError: If peft is not installed.
        FileNotFoundError: If there is no expert at that path.
        FormatError: If it is damaged.
        MetroFastError: If it does not fit the model, the model is quantized or holds adapters
            already, the sum is not finite, or it is a prompt, which no weight can hold.

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
        raise MetroFastError("the model holds adapters: pass its base, or merge_and_unload() first")
    if not isinstance(source, TaskVector):
        source = read_expert(source)
    if source.config is None:
        if isinstance(source, Expert):
            return load_expert(model, source, initial=initial)
        return _add_residual(model, source, initial)
    if initial is not None:
        raise MetroFastError("initial is given, but this is an adapter, not a full residual")
    if kind_of(parse_config(source.config)) == "prompt":
        raise MetroFastError(
            "a prompt is read with every input: no weight of the model can hold it"
        )
    if getattr(model, "quantization_method", None) is not None:
        raise MetroFastError(
            f"the model is quantized ({model.quantization_method}): load it in its own precision, "
            "or keep the expert beside it with load_expert"
        )
    if isinstance(source, Expert):
        adapted = load_expert(model, source)
    else:
        adapted = _load(peft, model, source, source.config)
    # A safe merge makes new tensors, so that these are what the model had.
    before = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        return adapted.merge_and_unload(safe_merge=True).eval()
    except ValueError as error:  # of PEFT: a sum is not finite, which it sees module by module
        for parameter, data in before:
            parameter.data = data
        adapted.unload()
        told = " ".join(str(error).split())[:200]
        raise MetroFastError(f"a sum does not fit the model's dtype ({told})") from error


def _load(peft: Any, model: Any, vector: TaskVector, config: bytes) -> Any:
    """The model with the vector as its adapter, or the model as it was and an error."""
    tensors = {name: tensor.torch() for name, tensor in plain_tensors(vector).items()}
    with ExitStack() as undo:
        try:
            adapted = adapt(peft, model, peft_config(peft, config), "default", undo)
        except ValueError as error:  # of PEFT: it finds none of the modules
            raise MetroFastError(f"the merge does not fit the model ({error})") from error
        places = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
        for name in sorted(set(tensors) | set(places)):
            ours, theirs = (tuple(t[name].shape) if name in t else None for t in (tensors, places))
            if ours != theirs:
                raise MetroFastError(
                    f"the merge does not fit the model: {name} has shape {ours}, the model's "
                    f"{theirs}"
                )
        peft.set_peft_model_state_dict(adapted, tensors)
        undo.pop_all()
    return adapted


def _add_residual(model: Any, vector: TaskVector, initial: Any) -> Any:
    state = model.state_dict()
    tensors = {
        name: tensor.torch()
        for name, tensor in plain_tensors(vector, state if initial is None else initial).items()
    }
    for name, tensor in tensors.items():
        shape = tuple(state[name].shape) if name in state else None
        if shape != tuple(tensor.shape):
            raise MetroFastError(f"{name} has shape {tuple(tensor.shape)}, the model's {shape}")
    model.load_state_dict(tensors, strict=False)
    return model.eval()
