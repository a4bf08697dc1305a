"""JSON from files that may be damaged or hostile."""

import json
from typing import Any

from metro_fast.errors import FormatError

__all__ = ["parse_json"]


def parse_json(content: bytes | str, where: object) -> Any:
    """Parse JSON, with one error for everything that can be wrong with it.

    Args:
        content: The text, or its bytes in UTF-8.
        where: The file, or the file and line, for the message.

    Returns:
        The value.

    Raises:
        FormatError: If it is not JSON or not UTF-8, is nested too deeply, or holds a number of
            thousands of digits.

    Example:
        >>> parse_json("[1]", "here"), parse_json(b'{"a": null}', "here")
        ([1], {'a': None})
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where}: not JSON ({error})") from error
