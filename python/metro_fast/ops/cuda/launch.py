"""The package's own CUDA kernels: where their machine code comes from, and how they are launched.

Nothing of CUDA is linked. The driver (libcuda) is opened when a kernel is first wanted. Machine
code comes from the folder that a released wheel carries, else from the user's cache, else it is
compiled by NVRTC, which torch for CUDA brings along (docs/cuda.md).
"""

import ctypes
import os
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metro_fast import _core
from metro_fast.errors import CudaError, MetroFastError

__all__ = ["available", "cache_folder", "launch", "module", "nvrtc_names", "status"]

SHIPPED = Path(__file__).resolve().parents[2] / "_cubin"
"""The machine code that a released wheel carries; not there in a tree."""

_LIBRARIES = (
    "nvidia/cu13/lib/libnvrtc.so.13",
    "nvidia/cuda_nvrtc/lib/libnvrtc.so.13",
    "nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
)
"""Where the wheels that torch asks for put NVRTC, of CUDA 13 and of CUDA 12."""

_modules: dict[tuple[str, int], _core.CudaModule] = {}

Argument = Any
"""Of a kernel: a ctypes number, a tensor (its address), or None (a null pointer)."""


def available() -> bool:
    """Whether there is a CUDA driver with a device. Never raises.

    Example:
        >>> available() in (True, False)
        True
    """
    try:
        return bool(_core.cuda_devices()[1])
    except CudaError:
        return False


def nvrtc_names() -> list[str]:
    """What NVRTC may be called, in the order in which it is looked for.

    `METRO_FAST_NVRTC` names one file and no other is tried; else it is that of torch's own
    packages, else what the system's loader finds.
    """
    if chosen := os.environ.get("METRO_FAST_NVRTC"):
        return [chosen]
    places = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    found = [Path(place) / name for name in _LIBRARIES for place in sorted(places)]
    return [
        *(str(path) for path in found if path.is_file()),
        *("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"),
    ]


def cache_folder() -> Path | None:
    """Where compiled kernels are kept, or None if there is no home to keep them in.

    `METRO_FAST_CACHE`, else `metro_fast` in `XDG_CACHE_HOME`, else in `~/.cache`.
    """
    if chosen := os.environ.get("METRO_FAST_CACHE"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "metro_fast"
    try:
        return Path.home() / ".cache" / "metro_fast"
    except RuntimeError:  # no HOME, and no entry for the user
        return None


def module(source: str, device: int) -> _core.CudaModule:
    """The kernels of a source in a device; found or compiled at the first call.

    Args:
        source: Its file's name, for instance `"unpack.cu"`.
        device: Index of the device.

    Raises:
        CudaError: If the driver, the device or the compiler is missing or fails.
    """
    key = (source, device)
    if key not in _modules:
        _modules[key] = _core.CudaModule(
            source,
            device,
            nvrtc=nvrtc_names(),
            cache=cache_folder(),
            shipped=SHIPPED if SHIPPED.is_dir() else None,
        )
    return _modules[key]


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

    From the second launch of a kernel on nothing is loaded, so that a CUDA graph may capture it.
    The caller's current device is as before afterwards.

    Args:
        source: Its file's name.
        kernel: Its name.
        arguments: In order: numbers as `ctypes` (4 or 8 bytes), tensors, None.
        device: Index of the device that the tensors are on.
        stream: Handle of the stream (`torch.cuda.current_stream(device).cuda_stream`).
        grid: Blocks.
        block: Threads of a block.
        shared_bytes: Dynamic shared memory of a block.

    Raises:
        CudaError: If something is missing or the driver refuses.
    """
    packed, sizes = _pack(arguments)
    module(source, device).launch(
        kernel, stream, (grid, 1, 1), (block, 1, 1), shared_bytes, packed, sizes
    )


def status() -> list[tuple[str, str]]:
    """What was found of CUDA, as lines for a bug report: `metro-fast env` prints them."""
    lines = []
    try:
        version, devices = _core.cuda_devices()
        lines.append(("CUDA driver", f"for CUDA {version // 1000}.{version % 1000 // 10}"))
        for index, (name, (major, minor), multiprocessors, _) in enumerate(devices):
            told = f"{name}, sm_{major}{minor}, {multiprocessors} multiprocessors"
            lines.append((f"GPU {index}", told))
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
    lines.append(("CUDA kernels", _kept()))
    return lines


def _kept() -> str:
    folder = cache_folder()
    if folder is None:
        return "compiled at first use, and not kept: there is no home folder (set METRO_FAST_CACHE)"
    refusal = _refusal(folder)
    if folder.is_dir():
        return f"{len(list(folder.glob('*.cubin')))} compiled at {folder}{refusal}"
    return f"compiled at first use, to be kept at {folder}{refusal}"


def _refusal(folder: Path) -> str:
    """Why nothing can be kept there. It is tried: permissions say little to root."""
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
