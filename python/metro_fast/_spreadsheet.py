"""Texts in tables that a spreadsheet may open."""

__all__ = ["safe_cell"]

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""With these, which are also there in full width, a spreadsheet begins a formula."""


def safe_cell(text: str) -> str:
    """A text as a cell, with an apostrophe in front where a spreadsheet would run it as a formula.

    Example:
        >>> safe_cell("=cmd|' /C calc'!A0"), safe_cell("base")
        ("'=cmd|' /C calc'!A0", 'base')
    """
    # A leading tab, line break or space is cut off by some of them.
    return f"'{text}" if text.lstrip().startswith(_FORMULA) or text[:1].isspace() else text
