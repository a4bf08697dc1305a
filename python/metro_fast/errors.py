"""The exceptions that metro_fast raises.

A wrong dtype is a `TypeError`, an I/O failure an `OSError`; everything else that the caller can
fix is a `MetroFastError`, whose message gives the value, what was expected, and what to do.
"""

from metro_fast._core import CudaError, FormatError, MetroFastError

__all__ = ["CudaError", "FormatError", "MetroFastError", "MissingExtraError"]


class MissingExtraError(ImportError):
    """An optional dependency is not installed; the message holds the pip command that brings it."""
