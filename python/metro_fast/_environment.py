"""The environment variables of metro_fast: one rule for all of them (docs/environment.md).

A variable that is unset or empty has no effect. Every other value is used or refused; it is never
passed over. `_memory` reads `METRO_FAST_MAX_DECODED_BYTES` by the same rule, and the native module
`METRO_FAST_LIBCUDA`, `METRO_FAST_NUM_THREADS` and `METRO_FAST_SIMD`
(rust/python/src/environment.rs).
"""

import difflib
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from metro_fast._shown import shown
from metro_fast.errors import MetroFastError

__all__ = ["VARIABLES", "chosen_file", "chosen_folder", "warn_of_unknown"]

VARIABLES = frozenset(
    {
        "METRO_FAST_CACHE",
        "METRO_FAST_EXPERTS",
        "METRO_FAST_EXPERTS_PLAIN",
        "METRO_FAST_LIBCUDA",
        "METRO_FAST_MAX_DECODED_BYTES",
        "METRO_FAST_NUM_THREADS",
        "METRO_FAST_NVRTC",
        "METRO_FAST_SIMD",
        # Developers set these for tests and benches, whose processes import the package too.
        *("METRO_FAST_EVERY_STEP", "METRO_FAST_FULL", "METRO_FAST_KILLS", "METRO_FAST_KILL_SEED"),
        *("METRO_FAST_METRO_T0", "METRO_FAST_NANOT5"),
    }
)
"""Every name that has a meaning; another one that begins alike is taken for a mistake."""


def chosen_folder(name: str, *, exists: bool = False) -> Path | None:
    """The folder that a variable names, or None if the variable is unset or empty.

    Args:
        name: The variable.
        exists: Whether the folder has to be there.

    Raises:
        MetroFastError: If it is not the whole path of a folder. A relative one, and one with `~`,
            would be another folder for each process.

    Example:
        >>> chosen_folder("METRO_FAST_CACHE") is None
        True
    """
    value = os.environ.get(name)
    if not value:
        return None
    if not Path(value).is_absolute():
        raise MetroFastError(
            f"{name} is {shown(repr(value))}, expected the whole path of a folder, from the root on"
        )
    return _checked(name, value, Path.is_dir, "folder", exists=exists)


def chosen_file(name: str) -> str | None:
    """The library that a variable names, or None if the variable is unset or empty.

    Raises:
        MetroFastError: If it is the path of something that is not a file, or cannot be a path.
            A path at which nothing is found is an error when the library is opened.
    """
    value = os.environ.get(name)
    if not value:
        return None
    _checked(name, value, Path.is_file, "file", exists=False)
    return value


def _checked(
    name: str, value: str, is_kind: Callable[[Path], bool], kind: str, *, exists: bool
) -> Path:
    path = Path(value)
    try:
        there = os.path.lexists(path)
        fits = is_kind(path)
    except (OSError, ValueError) as error:  # too long, or not permitted
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MetroFastError(
            f"{name} is {shown(repr(value))}, which cannot be the path of a {kind}: {reason}"
        ) from error
    if there and not fits:
        raise MetroFastError(f"{name} is {shown(repr(value))}, which is not a {kind}")
    if exists and not there:
        raise MetroFastError(f"{name} is {shown(repr(value))}: there is no such {kind}")
    return path


def warn_of_unknown() -> None:
    """Warn of variables that begin with `METRO_FAST_` and mean nothing: a slip would be silent.

    Warns:
        UserWarning: For each of them, with the name that may be meant.
    """
    for name in sorted(os.environ):
        if not name.startswith("METRO_FAST_") or name in VARIABLES:
            continue
        near = difflib.get_close_matches(name, VARIABLES, n=1)
        meant = f"did you mean {near[0]}?" if near else "docs/environment.md lists those that do"
        warnings.warn(
            f"the environment variable {shown(name)} has no effect: {meant}", stacklevel=3
        )
