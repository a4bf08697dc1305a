"""Values from files, as messages show them: short, and without control characters."""

__all__ = ["printable", "shown"]

MOST = 80
"""Most characters of a value in a message: a line of a terminal."""


def shown(value: object, most: int = MOST) -> str:
    r"""A value that comes from a file, as a message may show it.

    A file may hold a name of ten megabytes, or one that moves the cursor of the terminal on which
    it is printed. Control characters are escaped as Python escapes them, and the middle of what is
    too long is left out.

    Args:
        value: A text is taken as it is, everything else by its `repr`.
        most: Most characters of the result.

    Returns:
        Printable text of at most `most` characters.

    Example:
        >>> shown("layers.0.q"), shown("a\x1b[2J"), shown([1] * 1000, 20)
        ('layers.0.q', 'a\\x1b[2J', '[1, 1, 1,...1, 1, 1]')
    """
    whole = value if isinstance(value, str) else repr(value)
    # Escapes make a text longer, never shorter: the ends suffice.
    text = whole if len(whole) <= 2 * most else whole[:most] + whole[-most:]
    text = "".join(each if each.isprintable() else _escaped(each) for each in text)
    if len(text) <= most and len(whole) <= 2 * most:
        return text
    half = (most - 3) // 2
    return f"{text[: most - 3 - half]}...{text[-half:]}"


def printable(text: str) -> str:
    r"""A text of our own sentences and strangers' names, with its line breaks alone unescaped.

    Example:
        >>> printable("a\x1b[2J\u202eb")
        'a\\x1b[2J\\u202eb'
    """
    return "".join(each if each.isprintable() or each == "\n" else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return repr(character)[1:-1]
