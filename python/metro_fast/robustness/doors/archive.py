"""Members of ZIP archives by strangers, also those packed by Zstandard, which Inspect writes."""

import struct
import zipfile
import zlib
from pathlib import Path

from metro_fast._extras import require
from metro_fast._regular import check_regular
from metro_fast.errors import FormatError

__all__ = ["MOST_BYTES", "read_member"]

MOST_BYTES = 64 * 2**20
"""Most bytes of one member; a sample with a million tokens of conversation is smaller."""

# Numbers of APPNOTE.TXT: the method 93, and the length of a local header.
_ZSTANDARD = 93
_LOCAL_HEADER = 30


def read_member(path: Path, name: str) -> bytes:
    """Unpack one member of an archive, whose size is checked first.

    Args:
        path: The archive.
        name: The member.

    Returns:
        Its bytes.

    Raises:
        FormatError: If it is absent, damaged, encrypted, or unpacks to more than `MOST_BYTES`.
        MissingExtraError: If it is packed by Zstandard and pyarrow is not installed.
        OSError: If the archive cannot be read.
    """
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(name)
            if info.file_size > MOST_BYTES:
                raise FormatError(
                    f"{path}: {name} unpacks to {info.file_size} bytes, expected at most "
                    f"{MOST_BYTES}"
                )
            if info.compress_type == _ZSTANDARD:
                return _zstandard(path, info)
            with archive.open(name) as file:
                # A member may hold more than it says.
                return file.read(MOST_BYTES)
    except (
        KeyError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise FormatError(f"{path}: {name} cannot be unpacked ({error})") from error


def _zstandard(path: Path, info: zipfile.ZipInfo) -> bytes:
    """Unpack what the standard library can read from Python 3.14 on."""
    arrow = require("pyarrow", "data")
    with path.open("rb") as file:
        file.seek(info.header_offset)
        lengths = struct.unpack("<HH", file.read(_LOCAL_HEADER)[26:])
        file.seek(sum(lengths), 1)
        packed = file.read(info.compress_size)
    try:
        with arrow.CompressedInputStream(arrow.BufferReader(packed), "zstd") as stream:
            content: bytes = stream.read(info.file_size)
    except OSError as error:
        raise zipfile.BadZipFile(str(error)) from error
    if zlib.crc32(content) != info.CRC:
        raise zipfile.BadZipFile("its checksum is wrong")
    return content
