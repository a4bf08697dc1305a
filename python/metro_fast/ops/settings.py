"""Frozen dataclasses of settings: a short repr, and keywords that become fields."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from typing import Any, TypeVar

from metro_fast._shown import quoted


@dataclass(frozen=True, repr=False)
class Settings:
    """Base of the frozen dataclasses that hold settings: only what differs from a default shows."""

    def __repr__(self) -> str:
        values = [(field, getattr(self, field.name)) for field in fields(self)]
        shown = [f"{field.name}={_shorten(x)}" for field, x in values if not _is_default(field, x)]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _check_types(self, kind: type | tuple[type, ...], expected: str, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(f"{name} is {quoted(value)}, expected {expected}")

    def _set(self, **values: object) -> None:
        """Replace fields by their checked values, which `__post_init__` alone may do."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


_Settings = TypeVar("_Settings", bound=Settings)


def split_keywords(
    function: str,
    known: frozenset[str],
    homes: Mapping[str, type[Settings]],
    given: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Sort keywords by the settings that they are fields of.

    Args:
        function: Name of the function that was called, for the message.
        known: Keywords that it takes.
        homes: Classes of settings by the name of the function's argument, such as `vocabulary`.
        given: Keywords of the call.

    Returns:
        For each class, in the order of `homes`, the keywords that are its fields.

    Raises:
        TypeError: If a keyword is not among the known ones; the message says where it belongs.
    """
    if not given:
        return [{} for _ in homes]
    names = {home: kind.__dataclass_fields__ for home, kind in homes.items()}
    for name in given:
        if name not in known:
            owner = next((home for home in homes if name in names[home]), None)
            advice = f"expected one of {', '.join(sorted(known))}"
            if owner is not None:
                advice = f"give {owner}={homes[owner].__name__}({name}=...)"
            raise TypeError(f"{function} takes no keyword {name}: {advice}")
    return [{name: value for name, value in given.items() if name in names[home]} for home in homes]


def replaced(value: _Settings, values: Mapping[str, Any]) -> _Settings:
    """The settings with other values; the same object, without new checks, if `values` is empty."""
    return replace(value, **values) if values else value


def _is_default(field: Field[Any], value: object) -> bool:
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    return value is default or (type(value) is type(default) and bool(value == default))


def _shorten(value: object) -> str:
    """The repr of a value; arrays and long texts by their size."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"<{value.dtype} {tuple(shape)}>"  # type: ignore[attr-defined]
    text = repr(value)
    if len(text) <= 60:
        return text
    if isinstance(value, tuple):
        return f"<{len(value)} values>"
    return f"{text[:57]}..."
