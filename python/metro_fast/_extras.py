"""Optional dependencies: imported where they are first used, or named with their pip command."""

import importlib
from types import ModuleType

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
