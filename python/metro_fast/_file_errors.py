"""Failed writes as OSError with the cause and the file, whichever library reports them."""

import errno
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["named", "os_errors"]

_TORCH = ("inline_container", "PytorchStreamWriter", "unexpected pos", "iostream error")
_SAFETENSORS = re.compile(r"\(os error (\d+)\)")
_PROBE_BYTES = 1 << 20


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Set the file of an OSError: an open file does not know it, a temporary one has another name.

    Args:
        path: The file that is written.

    Raises:
        OSError: With its `filename`.

    Example:
        >>> with named(Path("a.txt")):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        ...
        OSError: [Errno 28] No space left on device: 'a.txt'
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)
            if error.filename2 is not None:  # of a rename; None would be printed
                del error.filename2
        raise


@contextmanager
def os_errors(folder: Path, final: Path | None = None) -> Iterator[None]:
    """Turn the errors of libraries that cannot write into a folder into an OSError with its cause.

    torch raises a RuntimeError about its zip container, without the error of the operating system;
    that is found by a write of our own.

    Args:
        folder: The folder that is written to; the file written last is the one that is named.
        final: The name that the folder gets at the end, and has in the message.

    Raises:
        OSError: In the place of those of torch, safetensors and tokenizers; others pass.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        path = _newest(folder) if error.filename is None else Path(os.fsdecode(error.filename))
        error.filename = str(_final(path, folder, final))
        raise
    except Exception as error:  # tokenizers raises just that
        code = _code(error, folder)
        if code is None:
            raise
        # safetensors has removed the temporary file that it wrote
        written = _newest(folder) if isinstance(error, RuntimeError) else folder
        path = _final(written, folder, final)
        raise OSError(code, os.strerror(code), str(path)) from error


def _code(error: Exception, folder: Path) -> int | None:
    """The error of the operating system behind another one; None if that is about something else.

    Example:
        >>> _code(ValueError("(os error 28)"), Path()), _code(RuntimeError("shape"), Path())
        (None, None)
    """
    text = str(error)
    if type(error) is Exception or type(error).__name__ == "SafetensorError":
        found = _SAFETENSORS.search(text)
        return None if found is None else int(found[1])
    if isinstance(error, RuntimeError) and any(part in text for part in _TORCH):
        return _code_of_write(folder)
    return None


def _code_of_write(folder: Path) -> int:
    """Why a file cannot be written in a folder, by an attempt."""
    probe = folder / f".probe-{os.getpid()}.tmp"
    try:
        with probe.open("wb", buffering=0) as file:
            left = bytes(_PROBE_BYTES)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        probe.unlink(missing_ok=True)
    return _limit_of_process() or errno.EIO


def _limit_of_process() -> int | None:
    """EFBIG if the size of a file is limited, which a small one does not meet."""
    if os.name == "nt":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else errno.EFBIG


def _final(path: Path, folder: Path, final: Path | None) -> Path:
    """The name that a file in a temporary folder would have got."""
    if final is None or not path.is_relative_to(folder):
        return path
    return final / path.relative_to(folder)


def _newest(folder: Path) -> Path:
    """The file that was being written: one of torch that is not a whole zip file, or the newest."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    torchs = [path for path in files if path.suffix in (".bin", ".pt", ".pth")]
    cut = [path for path in torchs if not zipfile.is_zipfile(path)]
    return max(cut or files, key=lambda path: path.stat().st_mtime_ns, default=folder)
