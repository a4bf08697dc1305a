"""Optional dependencies: imported where first used, and named with the command that brings them."""

import importlib
from types import ModuleType

from metro_fast.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: Name of the module, for instance `"peft"`.
        extra: Extra of the package that brings it, for instance `"peft"`.

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
