"""The state of a model before an operation, and the way back to it."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_CONTAINERS = (dict, OrderedDict, defaultdict, list, set)
"""The containers that PEFT, torch and transformers change. Not their subclasses: the frozen dict of
a configuration of diffusers, for instance, refuses to be written, and so cannot have changed."""


class Snapshot:
    """Everything about a model that putting an adapter into it, or merging one, changes.

    That is the tree of modules with their classes and attributes (hooks, training mode, PEFT's own
    records), the tensors that each parameter and buffer holds, `requires_grad`, and the fields of
    configurations. No weight is copied: an operation that writes into a tensor in place, rather
    than replacing it, keeps a copy itself (`keep_values`).

    Args:
        model: The model, whose weights are all in memory.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2))
        >>> linear, before = model[0], Snapshot(model)
        >>> model[0] = torch.nn.ReLU()
        >>> model.peft_config = {}
        >>> before.restore()
        >>> model[0] is linear, hasattr(model, "peft_config")
        (True, False)
    """

    def __init__(self, model: "torch.nn.Module") -> None:
        owners = list(_owners(model))
        self._attributes = [(owner, type(owner), dict(vars(owner))) for owner in owners]
        # torch and PEFT change their containers in place, and other objects may share them.
        containers = {
            id(value): value
            for _, _, attributes in self._attributes
            for value in attributes.values()
            if type(value) in _CONTAINERS
        }
        self._containers = [(value, value.copy()) for value in containers.values()]
        tensors = [*model.parameters(), *model.buffers()]
        self._tensors = [(tensor, tensor.data, tensor.requires_grad) for tensor in tensors]

    def restore(self) -> None:
        """Put the model back into the state that it had."""
        for owner, kind, attributes in self._attributes:
            if type(owner) is not kind:  # torch.nn.utils.parametrize changes classes
                owner.__class__ = kind
            vars(owner).clear()
            vars(owner).update(attributes)
        for value, before in self._containers:
            if isinstance(value, list):
                value[:] = before
            else:
                value.clear()
                value.update(before)
        for tensor, data, requires_grad in self._tensors:
            if tensor.data_ptr() != data.data_ptr() or tensor.shape != data.shape:
                tensor.data = data
            if tensor.requires_grad is not requires_grad:
                tensor.requires_grad_(requires_grad)


def keep_values(tensors: "list[torch.Tensor]") -> "list[tuple[torch.Tensor, torch.Tensor]]":
    """Tensors whose values will be overwritten in place, with copies of the values.

    Args:
        tensors: The tensors.

    Returns:
        Pairs for `put_back`: the memory that each tensor has now, and a copy.
    """
    return [(tensor.data, tensor.detach().clone()) for tensor in tensors]


def put_back(kept: "list[tuple[torch.Tensor, torch.Tensor]]") -> None:
    """Write the values that `keep_values` copied."""
    for memory, values in kept:
        memory.copy_(values)


def _owners(model: Any) -> Iterator[Any]:
    """The modules of a model, and the configurations that they hold, each once."""
    seen: set[int] = set()
    for module in model.modules():
        # The modules of a wrapper share the dict of configurations with the model inside.
        adapters = vars(module).get("peft_config") or vars(module).get("_peft_config")
        configs = [vars(module).get("config"), vars(module).get("generation_config")]
        if isinstance(adapters, dict):
            configs += adapters.values()
        yield module
        for config in configs:
            if hasattr(config, "__dict__") and id(config) not in seen:
                seen.add(id(config))
                yield config
