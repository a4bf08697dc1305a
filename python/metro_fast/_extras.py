"""Optional dependencies: imported where they are first used, or named with their pip command."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from metro_fast._shown import quoted
from metro_fast.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: Name of the module, for instance `"peft"`.
        extra: Extra of this package that installs it, for instance `"peft"`.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: If it is not installed.

    Example:
        >>> require("json", "train").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingExtraError(
            f"{module} is not installed. Install it with: pip install 'metro_fast[{extra}]'"
        ) from error


def on_first_use(
    package: str, places: Mapping[str, str], modules: Sequence[str]
) -> Callable[[str], Any]:
    """The `__getattr__` of a package, some of whose names need optional dependencies.

    The others are then there without these, and faster.

    Args:
        package: The package's `__name__`.
        places: By name the module that defines it.
        modules: The optional dependencies that all of them need, of the extra `eval`.

    Returns:
        The function. It raises `MissingExtraError` where a dependency is not installed.
    """

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {quoted(package)} has no attribute {quoted(name)}")
        for module in modules:
            require(module, "eval")
        found = getattr(importlib.import_module(places[name]), name)
        setattr(sys.modules[package], name, found)
        return found

    return get
