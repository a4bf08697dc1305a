"""Permanent addition of an expert or a merge to the weights of its base."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import kind_of, parse_config
from metro_fast.experts.compression.task_vector import TaskVector
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.loading.adapt import adapt, has_adapters, one_line, peft_config
from metro_fast.experts.loading.checks import check_base
from metro_fast.experts.loading.fill import Weights, fill
from metro_fast.experts.loading.load import check_needed, load_whole, put
from metro_fast.experts.loading.load_full import ModelT, replace_weights
from metro_fast.experts.loading.settings import check_mergeable
from metro_fast.experts.loading.undo import Undo, all_or_nothing
from metro_fast.experts.loading.untie import untie
from metro_fast.experts.plain.plain import plain_tensors

if TYPE_CHECKING:
    import torch
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
        initial: For a full residual: the original base, if the model has other weights by now. For
            an adapter that was compressed with `initial`: the same values.

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
        >>> _ = torch.manual_seed(0)
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
    check_base(model)
    if has_adapters(model) or isinstance(model, peft.PeftModel):
        raise MetroFastError(
            "the model has adapters already: pass its base model, or call merge_and_unload() first"
        )
    if not isinstance(source, TaskVector):
        source = read_expert(source)
    if source.config is None:
        if isinstance(source, Expert):
            return load_whole(model, source, initial)
        before = model.state_dict() if initial is None else initial
        return replace_weights(model, _plain(source, before))
    config = parse_config(source.config)
    if kind_of(config) == "prompt":
        raise MetroFastError(
            "a prompt is read with every input, so no weight of the model can hold it: use "
            "load_expert"
        )
    check_mergeable(config)
    quantization = getattr(model, "quantization_method", None)
    if quantization is not None:
        raise MetroFastError(
            f"the model is quantized ({quantization}): load it in its own precision, or keep the "
            "expert beside it with load_expert"
        )

    def work(undo: Undo) -> ModelT:
        if isinstance(source, Expert):
            adapted = put(model, source, "default", undo, initial)
        else:
            adapted = _put_vector(peft, model, source, undo, initial)
        untie(adapted)
        merged: ModelT = _merged(adapted)
        return merged

    return all_or_nothing(work)


def _merged(adapted: Any) -> Any:
    """The base with the weights of its only adapter added to its own."""
    try:
        with warnings.catch_warnings():
            # PEFT warns of tied weights, which are not tied any more.
            warnings.filterwarnings("ignore", ".*(tie_word_embeddings|longer tied)", UserWarning)
            # A safe merge makes new tensors, so the caller can put the model's own back.
            return adapted.merge_and_unload(safe_merge=True).eval()
    except (NotImplementedError, RuntimeError) as error:  # a bias of B where the base has none
        raise MetroFastError(
            f"PEFT cannot merge this adapter ({one_line(error)}): use load_expert"
        ) from error
    except ValueError as error:  # PEFT found a sum that is not finite
        raise MetroFastError(
            f"a sum does not fit the model's dtype ({one_line(error)}): load the model in a wider "
            "dtype"
        ) from error


def _put_vector(peft: Any, model: Any, vector: TaskVector, undo: Undo, initial: Any) -> "PeftModel":
    """The model with a vector as its adapter."""
    assert vector.config is not None
    check_needed(initial, needed=vector.initial_crc32c is not None)
    tensors = _plain(vector, initial)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    made = adapt(peft, model, peft_config(peft, vector.config), shapes, "default", undo)
    origin = "the merge does not fit the model"
    fill(peft, made, "default", Weights(shapes, lambda: tensors, origin), undo)
    return made.model


def _plain(vector: TaskVector, initial: Any) -> "dict[str, torch.Tensor]":
    return {name: tensor.torch() for name, tensor in plain_tensors(vector, initial).items()}
