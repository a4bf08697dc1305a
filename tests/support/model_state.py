"""Everything that an operation could change about a model, compared before and after it."""

import hashlib
from typing import Any

import torch


class ModelState:
    """A model's modules, tensors, hooks, attributes and configurations at one moment.

    Attributes:
        tensors: For each name of a parameter or buffer: its identity, its memory, dtype, shape,
            whether it requires gradients, and the hash of its bits.
        modules: For each name of a module: its identity, class, mode, hooks and attributes.
        configs: The fields of the configurations of transformers and of PEFT.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._alive: list[Any] = []  # so that no identity is used again
        self.tensors = {}
        named = [
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        ]
        for name, tensor in named:
            self._alive.append(tensor)
            facts = id(tensor), str(tensor.dtype), tuple(tensor.shape), tensor.requires_grad
            self.tensors[name] = (*facts, *_bits(tensor))
        self.modules = {}
        self.configs = {}
        for name, module in model.named_modules(remove_duplicate=False):
            self._alive.append(module)
            attributes = {
                key: self._comparable(value) for key, value in sorted(vars(module).items())
            }
            self.modules[name] = (id(module), type(module), module.training, attributes)
            for key in ("config", "generation_config", "peft_config"):
                if key in vars(module):
                    self.configs[f"{name}.{key}"] = repr(_fields(vars(module)[key]))

    def differences(self, later: "ModelState") -> list[str]:
        """The names of everything that is not as it was, with both values."""
        found = []
        for kind in ("tensors", "modules", "configs"):
            before, after = getattr(self, kind), getattr(later, kind)
            found += [
                f"{kind} {name}: {before.get(name)} -> {after.get(name)}"
                for name in sorted(set(before) | set(after))
                if before.get(name) != after.get(name)
            ]
            if list(before) != list(after):
                found.append(f"the order of {kind}")
        return found

    def _comparable(self, value: Any) -> Any:
        """A value that two states can compare: contents of containers, identities of objects."""
        self._alive.append(value)
        if value is None or isinstance(value, bool | int | float | str | torch.dtype):
            return value
        if isinstance(value, dict):
            return id(value), [(str(key), self._comparable(item)) for key, item in value.items()]
        if isinstance(value, list | tuple):
            return id(value) * isinstance(value, list), [self._comparable(item) for item in value]
        if isinstance(value, set | frozenset):
            return sorted(map(str, value))
        return id(value), type(value).__name__


def _fields(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _fields(item) for key, item in value.items()}
    return value.to_dict() if hasattr(value, "to_dict") else value


def _bits(tensor: torch.Tensor) -> tuple[int, str]:
    if tensor.is_meta:
        return 0, "on the meta device"
    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return tensor.data_ptr(), hashlib.sha1(raw.numpy().tobytes()).hexdigest()
