"""The places of an adapter's tensors in a network, according to their names."""

import re
from collections.abc import Sequence

from metro_fast.experts.adapters.roles import factor_of

Place = tuple[str, str]


def places_of(names: Sequence[str]) -> dict[str, Place]:
    """The layer and the module of each tensor, as rows and columns of a picture.

    The layer is a name up to its first number, such as `encoder.block.0`. The module is the rest
    of the name without further numbers, followed by A or B for LoRA. If two tensors would share a
    place, the layer extends to the last number of a name; if that is not enough, or a name has no
    number, the layer is the whole name.

    Example:
        >>> name = "base_model.model.encoder.block.1.layer.0.SelfAttention.q.lora_A.weight"
        >>> places_of([name])[name]
        ('encoder.block.1', 'SelfAttention.q A')
    """
    for split in (_at_first_number, _at_last_number, _whole):
        found = {name: split(*_module(name)) for name in names}
        if len(set(found.values())) == len(found):
            return found
    return {name: (name, "") for name in names}


def in_order(rows: Sequence[str]) -> list[str]:
    """The distinct names, with numbers in them sorted by value.

    Example:
        >>> in_order(["block.10", "block.9", "block.10"])
        ['block.9', 'block.10']
    """

    def key(name: str) -> list[tuple[int, int, str]]:
        parts = re.split(r"(\d+)", name)
        return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]

    return sorted(set(rows), key=key)


def _module(name: str) -> tuple[list[str], str]:
    """The parts of the module's name, and the role of the factor."""
    factor = factor_of(name)
    module = name if factor is None else factor.module
    module = re.sub(r"\.(weight|ia3_l)$", "", module.removeprefix("base_model.model."))
    module = re.sub(r"\.ia3_l$", "", module)
    role = "" if factor is None else factor.role.removeprefix("lora_")
    return module.split("."), role


def _at_first_number(parts: list[str], role: str) -> Place:
    first = next((i for i, part in enumerate(parts) if part.isdecimal()), None)
    if first is None:
        return _whole(parts, role)
    rest: list[str] = []
    for part in parts[first + 1 :]:
        if part.isdecimal():
            rest = rest[:-1]
        else:
            rest.append(part)
    return ".".join(parts[: first + 1]), " ".join(filter(None, (".".join(rest), role)))


def _at_last_number(parts: list[str], role: str) -> Place:
    numbers = [i for i, part in enumerate(parts) if part.isdecimal()]
    if not numbers:
        return _whole(parts, role)
    at = numbers[-1] + 1
    return ".".join(parts[:at]), " ".join(filter(None, (".".join(parts[at:]), role)))


def _whole(parts: list[str], role: str) -> Place:
    return ".".join(parts), role or "entries"
