"""The limit on what a file may take in memory, asked before anything is decoded or read."""

import os
from io import BufferedIOBase
from pathlib import Path

from metro_fast._regular import open_regular
from metro_fast._shown import shown
from metro_fast.errors import FormatError, MetroFastError

__all__ = [
    *("check_decoded", "decoded_limit", "free_memory", "read_bounded", "read_large"),
    "read_small",
]

VARIABLE = "METRO_FAST_MAX_DECODED_BYTES"
SMALL_FILE = 64 << 20
"""Most bytes of a file that people write: configurations, manifests, indexes of shards."""
_ELSEWHERE = 4 << 30
"""Taken as the free memory where the system does not say."""


def decoded_limit(max_decoded_bytes: int | None = None) -> int:
    """The most bytes that one call may decode to.

    Args:
        max_decoded_bytes: The caller's limit; by default that of METRO_FAST_MAX_DECODED_BYTES, and
            without it the memory that is free.

    Raises:
        TypeError: If it is not an integer.
        MetroFastError: If it is negative, or the variable is not a whole number.
    """
    if max_decoded_bytes is not None:
        if not isinstance(max_decoded_bytes, int) or isinstance(max_decoded_bytes, bool):
            kind = type(max_decoded_bytes).__name__
            raise TypeError(f"max_decoded_bytes is a {kind}, expected an integer")
        if max_decoded_bytes < 0:
            raise MetroFastError(f"max_decoded_bytes is {max_decoded_bytes}, expected 0 or more")
        return max_decoded_bytes
    text = os.environ.get(VARIABLE, "")
    if not text:
        return free_memory()
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):
        raise MetroFastError(f"{VARIABLE} is {shown(repr(text))}, expected a number of bytes")
    return int(text)


def check_decoded(nbytes: int, what: str, max_decoded_bytes: int | None = None) -> None:
    """Refuse what would take more memory than the limit.

    Args:
        nbytes: Bytes that it would take.
        what: What takes them, as the start of a sentence.
        max_decoded_bytes: The caller's limit, as `decoded_limit` takes it.

    Raises:
        MetroFastError: If it is more than the limit.

    Example:
        >>> check_decoded(4096, "the expert")
    """
    if max_decoded_bytes is None and nbytes <= 1 << 20 and not os.environ.get(VARIABLE):
        return  # Reading the free memory takes 50 microseconds.
    limit = decoded_limit(max_decoded_bytes)
    if nbytes > limit:
        raise MetroFastError(
            f"{what} would take {nbytes:,} bytes of memory, and the limit is {limit:,}: if you "
            f"trust the file and have the memory, give a larger max_decoded_bytes or {VARIABLE}"
        )


def read_small(path: Path, most: int = SMALL_FILE) -> bytes:
    """Read a whole file, but none that is larger than its kind of file ever is.

    Raises:
        FormatError: If it has more than `most` bytes, or is a FIFO, a socket or a device.
        OSError: If it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise FormatError(
                f"{shown(str(path))} has {size:,} bytes, expected at most {most:,}: it is another "
                "kind of file"
            )
        return file.read()


def read_large(path: Path) -> bytes:
    """Read a whole file that may be as large as the memory has room for.

    Raises:
        FormatError: If it is a FIFO, a socket or a device.
        MetroFastError: If it is larger than `decoded_limit` allows.
        OSError: If it cannot be read.
    """
    with open_regular(path) as file:
        check_decoded(os.fstat(file.fileno()).st_size, f"reading {shown(str(path))}")
        return file.read()


def read_bounded(file: BufferedIOBase, path: Path) -> bytes:
    """Read a deflated file, which may be a thousand times smaller than its content.

    Args:
        file: The file, which inflates what is read.
        path: Its path, for the message.

    Raises:
        MetroFastError: If it has more bytes than `decoded_limit` allows.
    """
    limit = decoded_limit()
    content = bytearray()
    while part := file.read(1 << 20):
        content += part
        if len(content) > limit:
            check_decoded(len(content), f"reading {shown(str(path))}", limit)
    return bytes(content)


def free_memory() -> int:
    """Bytes that this process can still take.

    On Linux the least of MemAvailable, what the cgroup leaves, and what RLIMIT_AS leaves; elsewhere
    the physical memory, or 4 GiB where the system does not say how much there is.
    """
    found = [value for value in (_available(), _left_by_cgroup(), _left_by_rlimit()) if value >= 0]
    return min(found, default=_ELSEWHERE)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _available() -> int:
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return -1


def _left_by_cgroup() -> int:
    for most, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        limit, now = _text(most).strip(), _text(used).strip()
        if limit.isdecimal() and now.isdecimal():
            # Pages of files count as used, though the kernel gives them back.
            return max(0, int(limit) - int(now) + _cached(Path(used).with_name("memory.stat")))
    return -1


def _cached(stat: Path) -> int:
    for line in _text(str(stat)).splitlines():
        if line.startswith(("inactive_file ", "total_inactive_file ")):
            return int(line.split()[1])
    return 0


def _left_by_rlimit() -> int:
    try:
        import resource
    except ImportError:
        return -1
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    pages = _text("/proc/self/statm").split()
    if limit == resource.RLIM_INFINITY or not pages:
        return -1
    return max(0, limit - int(pages[0]) * os.sysconf("SC_PAGE_SIZE"))
