"""The cost of one launch on the host, through a libcuda that does nothing: no GPU is needed.

The peer is `ctypes` calling the same function of the same library with the same arguments, which
neither packs anything nor looks after the caller's context. Run it in a process of its own: the
driver of a process is opened once.
"""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from metro_fast import _core
from metro_fast.errors import CudaError
from metro_fast.ops.cuda import launch

STUB = Path(__file__).parents[1] / "tests" / "support" / "stub_libcuda.c"
SOURCE, KERNEL = "replaced_token_labels.cu", "replaced_token_labels_fill"
COMPILER = shutil.which("cc")


class Tensor:
    """The part of a tensor that a launch needs."""

    def data_ptr(self) -> int:
        return 0x7000_0000_0000


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("stub") / "libcuda.so"
    command = [COMPILER, "-O2", "-shared", "-fPIC", "-DSTUB_QUIET", "-o", str(library), str(STUB)]
    subprocess.run(command, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METRO_FAST_LIBCUDA", str(library))
        try:
            names = [name for name, *_ in _core.cuda_devices()[1]]
            _core.nvrtc_version(launch.nvrtc_names())
        except CudaError as error:
            pytest.skip(str(error))
    if names != ["Stub 0", "Stub 1"]:
        pytest.skip("this process has opened another driver")
    return library


@pytest.mark.benchmark(group="one launch, on the host")
def test_launch(benchmark, stub: Path) -> None:
    tensor = Tensor()

    def launch() -> None:
        size = ctypes.c_uint64(1 << 20)
        arguments = [tensor, size, ctypes.c_int64(0), tensor, tensor]
        launch.launch(SOURCE, KERNEL, arguments, device=0, stream=0x77, grid=4096, block=256)

    launch()
    benchmark(launch)


@pytest.mark.benchmark(group="one launch, on the host")
def test_ctypes(benchmark, stub: Path) -> None:
    function = ctypes.CDLL(os.fspath(stub)).cuLaunchKernel
    tensor = Tensor()

    def launch() -> None:
        words = [ctypes.c_uint64(tensor.data_ptr()) for _ in range(3)]
        values = [words[0], ctypes.c_uint64(1 << 20), ctypes.c_int64(0), words[1], words[2]]
        addresses = (ctypes.c_void_p * 5)(*(ctypes.addressof(value) for value in values))
        shape = [ctypes.c_uint(n) for n in (4096, 1, 1, 256, 1, 1, 0)]
        function(ctypes.c_void_p(1), *shape, ctypes.c_void_p(0x77), addresses, None)

    launch()
    benchmark(launch)
