"""Weights that an adapted layer shares with other layers, before an adapter is merged into them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.loading.embeddings import embedding_layers

if TYPE_CHECKING:
    import torch


class _Owner(NamedTuple):
    """A place of a parameter: its path, the layer that has it, and the layers around that."""

    path: str
    layer: Any
    parameter: Any
    inside: frozenset[int]


def untie(adapted: Any) -> None:
    """Give the adapted layers weights of their own, so that a merge changes them alone.

    An adapter of one end of tied embeddings changes that end. A merge into the shared weight would
    change both; so the layer gets a copy first, and PEFT then sets `tie_word_embeddings` to False
    in the model's configuration, as it does for a head in `modules_to_save`. A model whose weights
    are shared otherwise has no setting that would keep them apart when it is saved and read again.

    Args:
        adapted: A PeftModel with one adapter.

    Raises:
        MetroFastError: If a weight is shared with a layer, and the two are not the model's input
            embedding and its head.
    """
    torch = require("torch", "peft")
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    base = adapted.get_base_model()
    owners = list(_owners(adapted))
    for path, around in list(adapted.named_modules()):
        if isinstance(around, AuxiliaryTrainingWrapper):
            layer: Any = around.original_module
        elif isinstance(around, BaseTunerLayer):
            layer = around.get_base_layer()
        else:
            continue
        for own in [owner for owner in owners if id(layer) in owner.inside]:
            others = [o for o in owners if id(around) not in o.inside and _overlap(o, own)]
            if not others:
                continue
            _check_ends(path, layer, others, base)
            if isinstance(around, BaseTunerLayer):
                trained = own.parameter.requires_grad
                copy = torch.nn.Parameter(own.parameter.detach().clone(), trained)
                setattr(own.layer, own.path.rpartition(".")[2], copy)
                owners = list(_owners(adapted))


def check_tied(state: "Mapping[str, torch.Tensor]", tensors: "Mapping[str, torch.Tensor]") -> None:
    """Check that tensors for several names of one shared weight are equal.

    Args:
        state: The state dict of the model.
        tensors: The values to load into it, by names in the state dict.

    Raises:
        MetroFastError: If two differ, so that the later would replace the earlier.

    Example:
        >>> import torch
        >>> shared = torch.ones(2)
        >>> check_tied({"a": shared, "b": shared}, {"a": torch.ones(2), "b": torch.zeros(2)})
        Traceback (most recent call last):
        ...
        metro_fast._core.MetroFastError: a and b are one weight in the model and two in the \
expert: load the model with tie_word_embeddings=False, and copy the weight into both
    """
    torch = require("torch", "peft")
    first: dict[Any, str] = {}
    for name, tensor in tensors.items():
        if state[name].numel() == 0:
            continue
        other = first.setdefault((state[name].device, state[name].data_ptr()), name)
        if not torch.equal(tensors[other], tensor):
            raise MetroFastError(
                f"{other} and {name} are one weight in the model and two in the expert: load the "
                "model with tie_word_embeddings=False, and copy the weight into both"
            )


def _owners(module: Any, path: str = "", inside: frozenset[int] = frozenset()) -> Iterator[_Owner]:
    """Every place of every parameter: one that is shared has several."""
    inside |= {id(module)}
    for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
        if parameter.numel():
            yield _Owner(path + name, module, parameter, inside)
    for name, child in module._modules.items():
        if child is not None:
            yield from _owners(child, f"{path}{name}.", inside)


def _overlap(one: _Owner, other: _Owner) -> bool:
    """Whether two parameters have memory in common: many may be slices of one storage."""
    a, b = one.parameter, other.parameter
    if a.device != b.device or a.untyped_storage().data_ptr() != b.untyped_storage().data_ptr():
        return False
    return bool(a.data_ptr() < _end(b) and b.data_ptr() < _end(a))


def _end(tensor: Any) -> int:
    steps = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return int(tensor.data_ptr() + (steps + 1) * tensor.element_size())


def _check_ends(path: str, layer: Any, others: Sequence[_Owner], base: Any) -> None:
    """Refuse what the configuration of a model cannot say."""
    embedding, head = embedding_layers(base)
    rest = {id(other.layer) for other in others}
    if layer is not None and (
        (layer is head and (len(rest) == 1 or _ties_always(base.config)))
        or (layer is embedding and rest == {id(head)})
    ):
        return
    shared = ", ".join(owner.path.removeprefix("base_model.model.") for owner in others[:3])
    raise MetroFastError(
        f"{path.removeprefix('base_model.model.')} shares its weight with {shared}, so a merge "
        "would change those layers too: keep the expert beside the model with load_expert, or "
        "untie the weights first (tie_word_embeddings=False, and a copy of the weight)"
    )


def _ties_always(config: Any) -> bool:
    """Whether a model ties its embeddings again where its file has only one of them.

    T5 does whatever `tie_word_embeddings` says; BART reads the others at random if it is False.
    """
    again = type(config).from_dict(config.to_dict() | {"tie_word_embeddings": False})
    return bool(again.tie_word_embeddings)
