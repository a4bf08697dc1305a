"""Notices files that do not begin as their name or encoding says."""

import codecs
from typing import Any

from metro_fast._shown import quoted
from metro_fast.errors import FormatError

LONGEST = 4
"""Number of bytes that `refuse_other_form` needs."""

_MARKS = (  # the one of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32", "utf-32", ("utf-32", "utf-32-le")),
    (codecs.BOM_UTF32_BE, "UTF-32", "utf-32", ("utf-32", "utf-32-be")),
    (codecs.BOM_UTF16_LE, "UTF-16", "utf-16", ("utf-16", "utf-16-le")),
    (codecs.BOM_UTF16_BE, "UTF-16", "utf-16", ("utf-16", "utf-16-be")),
)
_PACKED = (
    (b"\x1f\x8b\x08", "packed by gzip", "give it a name that ends in .gz"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", "give it a name that ends in .zst"),
    (b"PK\x03\x04", "a zip file", "unpack it"),
    (b"\xfd7zX", "packed by xz", "unpack it"),
)


def refuse_other_form(path: Any, first: bytes, encoding: str) -> None:
    """Refuse bytes that no choice about bad characters makes a text of.

    Args:
        path: The file, for the message.
        first: The first `LONGEST` bytes of the file, after it was unpacked as its name says.
        encoding: The encoding in which it is read.

    Raises:
        FormatError: If they are those of a packed file, or the byte order mark of another encoding.
    """
    name = codecs.lookup(encoding).name
    if name.startswith(("utf", "ascii")):
        for mark, title, advice, readers in _MARKS:
            if first.startswith(mark):
                if name not in readers:
                    raise FormatError(
                        f"{path} is not {encoding}: it begins as {title} does, give "
                        f"encoding={quoted(advice)} (--encoding)"
                    )
                return
    for magic, what, advice in _PACKED:
        if first.startswith(magic):
            raise FormatError(f"{path} is {what}, which its name does not say: {advice}")
