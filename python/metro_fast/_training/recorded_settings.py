"""The settings of a run as its folder records them, and how those of a resumed run differ."""

import dataclasses
from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from metro_fast._yaml import parse_yaml
from metro_fast.errors import FormatError


def plain_settings(settings: Any) -> dict[str, Any]:
    """Turn a dataclass or mapping of settings into what YAML can hold.

    Args:
        settings: Numbers, texts, paths, lists of them, and sections of the same. Paths become
            absolute, since a run may be resumed from another folder.

    Raises:
        TypeError: If a setting is of another type; the message names it.

    Example:
        >>> plain_settings({"training": {"betas": (0.9, 0.98)}})
        {'training': {'betas': [0.9, 0.98]}}
    """
    plain: dict[str, Any] = _plain("settings", settings)
    return plain


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings that a run was begun with.

    Raises:
        FormatError: If the file is not YAML, or holds no mapping.
        OSError: If it cannot be read.
    """
    before = parse_yaml(path.read_bytes(), path)
    if not isinstance(before, dict):
        raise FormatError(f"{path} holds a {type(before).__name__}, expected lines of name: value")
    return before


def changed_settings(
    before: Mapping[str, Any], now: Mapping[str, Any], free: Collection[str] = ()
) -> list[str]:
    """Describe the settings that differ, each by its dotted name; a missing one is None.

    Args:
        before: Settings as `read_settings` returns them.
        now: Settings as `plain_settings` returns them.
        free: Dotted names of settings, or of whole sections, that may differ.

    Example:
        >>> before, now = {"run": {"steps": 4, "seed": 0}}, {"run": {"steps": 8, "seed": 1}}
        >>> changed_settings(before, now, {"run.steps"})
        ['run.seed: 0 before, 1 now']
    """
    old, new = _flat(before), _flat(now)
    return [
        f"{name}: {old.get(name)!r} before, {new.get(name)!r} now"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name) and not _is_free(name, free)
    ]


def _is_free(name: str, free: Collection[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in free)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _plain(name: str, value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {inner: _plain(inner, getattr(value, inner)) for inner in names}
    if isinstance(value, Mapping):
        return {str(inner): _plain(str(inner), element) for inner, element in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, element) for element in value]
    if isinstance(value, Enum):
        return _plain(name, value.value)
    if isinstance(value, Path):
        return str(value.absolute())
    if value is not None and type(value) not in (bool, int, float, str):
        raise TypeError(
            f"{name} is a {type(value).__name__}, expected a number, a text, a path, or a list or "
            "mapping of these"
        )
    return value
