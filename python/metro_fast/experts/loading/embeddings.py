"""The embeddings of a model and its head, under the layers that PEFT puts around them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def embedding_layers(model: Any) -> "tuple[torch.nn.Module | None, torch.nn.Module | None]":
    """The input embedding and the head of a model: its own layers, without PEFT's around them.

    Args:
        model: A torch model; only those of transformers have the methods that say it.

    Returns:
        The two layers; None for one that the model does not have.

    Example:
        >>> import torch
        >>> embedding_layers(torch.nn.Linear(2, 2))
        (None, None)
    """
    return _layer(model, "get_input_embeddings"), _layer(model, "get_output_embeddings")


def base_embeddings(adapted: Any) -> "dict[str, torch.nn.Parameter]":
    """The weights of the base's embeddings and of its head, by the names PEFT saves them under.

    Args:
        adapted: A PeftModel.
    """
    layers = embedding_layers(adapted.get_base_model())
    weights = {id(p) for layer in layers if layer for p in layer.parameters(recurse=False)}
    named = adapted.named_parameters(remove_duplicate=False)
    return {name: parameter for name, parameter in named if id(parameter) in weights}


def twin_of(name: str) -> str:
    """The name under which PEFT loads a tensor of a head that it saves under two names.

    With embeddings in `modules_to_save` and a vocabulary that has grown, a file of PEFT has the
    trained weight twice, and only one of the names is read.

    Example:
        >>> twin_of("base_model.model.lm_head.modules_to_save.weight")
        'base_model.model.lm_head.weight'
    """
    return name.replace(".modules_to_save.", ".")


def _layer(model: Any, getter: str) -> Any:
    try:
        layer = getattr(model, getter, lambda: None)()
    except NotImplementedError:  # a model without text
        return None
    for attribute in ("base_layer", "original_module"):
        while hasattr(layer, attribute):
            layer = getattr(layer, attribute)
    return layer
