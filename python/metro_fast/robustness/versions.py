"""When and by which software something was scored."""

import datetime
import os
import platform
from importlib import metadata

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError

__all__ = ["UNKNOWN", "installed", "now"]

UNKNOWN = {"unknown": "recomputed from cells"}
"""The versions of cells that no results file names."""

_PACKAGES = ("torch", "transformers", "peft", "tokenizers", "numpy", "scipy", "jinja2")


def installed() -> dict[str, str]:
    """Versions of Python and of the packages that scores depend on."""
    versions = {"python": platform.python_version(), "metro_fast": _version("metro_fast")}
    return versions | {name: _version(name) for name in _PACKAGES}


def now() -> float:
    """Seconds since 1970; `SOURCE_DATE_EPOCH`, if that is set, so that files can be reproduced.

    Raises:
        MetroFastError: If the variable is not a number.
    """
    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    if fixed is None:
        return datetime.datetime.now().timestamp()
    if not fixed.isascii() or not fixed.isdigit():
        raise MetroFastError(
            f"SOURCE_DATE_EPOCH is {quoted(fixed)}, expected whole seconds since 1970"
        )
    return float(fixed)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
