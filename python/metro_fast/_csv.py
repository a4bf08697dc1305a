"""Names in CSV files, which spreadsheets open."""

__all__ = ["as_text"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With these a spreadsheet begins a formula; numbers are written as they are."""


def as_text(name: str) -> str:
    """A name that a spreadsheet would run as a formula gets an apostrophe in front.

    Example:
        >>> as_text("=1+1"), as_text("base")
        ("'=1+1", 'base')
    """
    return f"'{name}" if name.startswith(_FORMULA) else name
