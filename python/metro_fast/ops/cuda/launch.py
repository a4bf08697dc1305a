"""Find or compile the machine code of the CUDA kernels, and launch them.

CUDA is not linked. The driver (libcuda) is opened when a kernel is first used. Machine code comes
from the folder that a released wheel contains, or else from the user's cache; otherwise it is
compiled by NVRTC, which is installed with torch for CUDA (docs/cuda.md).
"""

from __future__ import annotations

import ctypes
import os
import sysconfig
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from metro_fast import _core
from metro_fast._environment import chosen_file, chosen_folder
from metro_fast._shown import shown
from metro_fast.errors import CudaError, MetroFastError

if TYPE_CHECKING:
    import torch

__all__ = ["available", "cache_folder", "launch", "module", "nvrtc_names", "status"]

SHIPPED = Path(__file__).resolve().parents[2] / "_cubin"
"""The machine code that a released wheel contains; a source tree does not have this folder."""

_LIBRARIES = (
    "nvidia/cu13/lib/libnvrtc.so.13",
    "nvidia/cuda_nvrtc/lib/libnvrtc.so.13",
    "nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
)
"""Where the wheels that torch depends on put NVRTC, for CUDA 13 and for CUDA 12."""

_modules: dict[tuple[str, int], _core.CudaModule] = {}

Number: TypeAlias = "ctypes.c_float | ctypes.c_int64 | ctypes.c_uint32 | ctypes.c_uint64"
Argument: TypeAlias = "Number | torch.Tensor | None"
"""An argument of a kernel: a number, a tensor (its address), or None (a null pointer)."""


def available() -> bool:
    """Whether there is a CUDA driver with a device. This never raises.

    Example:
        >>> available() in (True, False)
        True
    """
    try:
        return bool(_core.cuda_devices()[1])
    except CudaError:
        return False


def nvrtc_names() -> list[str]:
    """Return the names under which NVRTC is looked for, in order.

    If `METRO_FAST_NVRTC` is set, it names the only file that is tried. Otherwise NVRTC comes from
    the packages that torch depends on, or from wherever the loader of the system finds it.

    Raises:
        MetroFastError: If that variable cannot name a file.
    """
    if chosen := chosen_file("METRO_FAST_NVRTC"):
        return [chosen]
    places = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    found = [Path(place) / name for name in _LIBRARIES for place in sorted(places)]
    return [
        *(str(path) for path in found if path.is_file()),
        *("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"),
    ]


def cache_folder() -> Path | None:
    """Return the folder for compiled kernels, or None if there is no home folder.

    It is `METRO_FAST_CACHE` if that is set, otherwise `metro_fast` in `XDG_CACHE_HOME` or in
    `~/.cache`. A relative `XDG_CACHE_HOME` is passed over, as its specification demands.

    Raises:
        MetroFastError: If `METRO_FAST_CACHE` is not the whole path of a folder.
    """
    if chosen := chosen_folder("METRO_FAST_CACHE"):
        return chosen
    if Path(base := os.environ.get("XDG_CACHE_HOME", "")).is_absolute():
        return Path(base) / "metro_fast"
    try:
        return Path.home() / ".cache" / "metro_fast"
    except RuntimeError:  # no HOME, and no entry for the user
        return None


def module(source: str, device: int) -> _core.CudaModule:
    """Return the kernels of a source for a device, which the first call finds or compiles.

    Args:
        source: Name of the source file, for instance `"unpack.cu"`.
        device: Index of the device.

    Raises:
        CudaError: If the driver, the device or the compiler is missing or fails.

    Warns:
        UserWarning: If what was compiled cannot be kept, for instance because another user may
            write to the folder of the cache, which is then not used.
    """
    key = (source, device)
    if key not in _modules:
        _modules[key] = found = _core.CudaModule(
            source,
            device,
            nvrtc=nvrtc_names(),
            cache=cache_folder(),
            shipped=SHIPPED if SHIPPED.is_dir() else None,
        )
        _warn_if_not_kept(found.origin)
    return _modules[key]


def _warn_if_not_kept(origin: str) -> None:
    head, _, reason = origin.partition("not kept: ")
    if head != origin:
        warnings.warn(
            f"the cache of compiled CUDA kernels is not used: {shown(reason, 300)}. Each process "
            "compiles them again; METRO_FAST_CACHE may name a folder of your own",
            stacklevel=4,
        )


def launch(
    source: str,
    kernel: str,
    arguments: Sequence[Argument],
    *,
    device: int,
    stream: int,
    grid: int,
    block: int,
    shared_bytes: int = 0,
) -> None:
    """Launch a kernel on a stream of a device, without waiting for it.

    Only the first launch of a kernel loads code, so a CUDA graph can capture later launches. The
    current device of the caller does not change.

    Args:
        source: Name of the source file.
        kernel: Name of the kernel.
        arguments: The arguments in order: numbers as `ctypes` (4 or 8 bytes), tensors, or None.
        device: Index of the device that the tensors are on.
        stream: Handle of the stream (`torch.cuda.current_stream(device).cuda_stream`).
        grid: Number of blocks.
        block: Number of threads in a block.
        shared_bytes: Bytes of dynamic shared memory of a block.

    Raises:
        CudaError: If CUDA is missing or a call fails.
    """
    packed, sizes = _pack(arguments)
    module(source, device).launch(
        kernel, stream, (grid, 1, 1), (block, 1, 1), shared_bytes, packed, sizes
    )


def status() -> list[tuple[str, str]]:
    """Describe the CUDA installation as names and values, which `metro-fast env` prints."""
    lines = []
    try:
        version, devices = _core.cuda_devices()
        lines.append(("CUDA driver", f"for CUDA {version // 1000}.{version % 1000 // 10}"))
        for index, (name, (major, minor), multiprocessors, _) in enumerate(devices):
            description = f"{name}, sm_{major}{minor}, {multiprocessors} multiprocessors"
            lines.append((f"GPU {index}", description))
        if not devices:
            lines.append(("GPU", "none that this process may use"))
    except CudaError as error:
        lines.append(("CUDA driver", str(error)))
    try:
        path, (major, minor) = _core.nvrtc_version(nvrtc_names())
        lines.append(("NVRTC", f"{major}.{minor} at {path}"))
    except CudaError as error:
        lines.append(("NVRTC", str(error)))
    if SHIPPED.is_dir():
        lines.append(("CUDA kernels", f"{len(list(SHIPPED.glob('*.cubin')))} shipped at {SHIPPED}"))
    lines.append(("CUDA kernels", _describe_cache()))
    return lines


def _describe_cache() -> str:
    folder = cache_folder()
    if folder is None:
        return "compiled at first use, and not kept: there is no home folder (set METRO_FAST_CACHE)"
    problem = _write_problem(folder)
    if folder.is_dir():
        return f"{len(list(folder.glob('*.cubin')))} compiled at {folder}{problem}"
    return f"compiled at first use, to be kept at {folder}{problem}"


def _write_problem(folder: Path) -> str:
    """Try to write to the folder, because root ignores permissions, and describe a failure."""
    nearest = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    probe = nearest / f".metro_fast.{os.getpid()}.tmp"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        return f", which cannot be written to: {error.strerror}"
    return ""


def _pack(arguments: Sequence[Argument]) -> tuple[bytes, list[int]]:
    parts = []
    for argument in arguments:
        if argument is None:
            parts.append(bytes(8))
        elif isinstance(argument, ctypes._SimpleCData):
            parts.append(bytes(argument))
        elif hasattr(argument, "data_ptr"):
            parts.append(argument.data_ptr().to_bytes(8, "little"))
        else:
            kind = type(argument).__name__
            raise MetroFastError(
                f"an argument of a kernel is a {kind}, expected ctypes or a tensor"
            )
    return b"".join(parts), [len(part) for part in parts]
