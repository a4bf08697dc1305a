"""Compiling, caching and launching CUDA kernels without a GPU, by a libcuda that logs its calls."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from metro_fast import _core
from metro_fast.errors import CudaError
from metro_fast.ops.cuda import launch

STUB = Path(__file__).parents[2] / "support" / "stub_libcuda.c"
SOURCE = "replaced_token_labels.cu"
COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")


def has_nvrtc() -> bool:
    try:
        _core.nvrtc_version(launch.nvrtc_names())
    except CudaError:
        return False
    return True


needs_nvrtc = pytest.mark.skipif(
    not has_nvrtc(), reason="there is no NVRTC (torch for CUDA has it)"
)


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("stub") / "libcuda.so"
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", library, STUB], check=True)
    return library


class Machine:
    """Fresh interpreters with a stub of the driver and a cache of their own."""

    def __init__(self, folder: Path, stub: Path) -> None:
        self.log, self.cache = folder / "log", folder / "cache"
        self.environment = os.environ | {
            "METRO_FAST_LIBCUDA": str(stub),
            "METRO_FAST_CACHE": str(self.cache),
            "STUB_LOG": str(self.log),
        }

    def run(self, code: str, **environment: str) -> str:
        """The text that the code prints."""
        self.log.write_text("")
        prelude = "import ctypes\nfrom metro_fast.errors import CudaError\n"
        prelude += "from metro_fast.ops.cuda import launch\n"
        # `make cubins` may have filled the folder of the tree.
        prelude += f"launch.SHIPPED = launch.Path({str(self.log.with_name('none'))!r})\n"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", prelude + code],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def calls(self, name: str | None = None) -> list[str]:
        """The logged calls of the driver, or those of one function."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if name is None or line.split()[0] == name]


@pytest.fixture(autouse=True)
def nothing_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`make cubins` may have filled the folder of the tree."""
    monkeypatch.setattr(launch, "SHIPPED", tmp_path / "none")


@pytest.fixture
def machine(tmp_path: Path, stub: Path) -> Machine:
    return Machine(tmp_path, stub)


LAUNCH = f"""
def start(kernel="replaced_token_labels_fill", device=0, shared=0, arguments=None):
    launch.launch({SOURCE!r}, kernel, arguments or [], device=device, stream=0x77, grid=5, block=64,
                shared_bytes=shared)
"""


def test_without_a_driver_the_error_names_the_library(tmp_path: Path):
    machine = Machine(tmp_path, tmp_path / "nothing.so")
    out = machine.run(
        LAUNCH
        + """
print(launch.available())
try:
    start()
except CudaError as error:
    print(error)
"""
    )
    assert out.startswith(
        "False\nthe CUDA driver (it is installed with the driver of the GPU) was not found: "
    )
    assert "nothing.so" in out


@needs_compiler
def test_a_library_without_a_function_is_too_old(tmp_path: Path):
    library = tmp_path / "old.so"
    command = [str(COMPILER), "-shared", "-fPIC", "-DSTUB_OLD", "-o", str(library), str(STUB)]
    subprocess.run(command, check=True)
    out = Machine(tmp_path, library).run(
        "try: launch.module('unpack.cu', 0)\nexcept CudaError as error: print(error)"
    )
    assert "old.so is too old or is a different library" in out
    assert "cuLaunchKernel" in out


@needs_compiler
def test_an_error_of_the_driver_has_the_drivers_text(machine: Machine):
    code = "try: launch.module('unpack.cu', 0)\nexcept CudaError as error: print(error)"
    assert machine.run(code, STUB_INIT="100") == "cuInit failed: reported by the stub (100)\n"
    assert machine.run(code, STUB_INIT="999") == "cuInit failed: unknown error (999)\n"
    out = machine.run("try: launch.module('unpack.cu', 7)\nexcept CudaError as error: print(error)")
    assert out == "cuDeviceGet failed: reported by the stub (101)\n"


@needs_compiler
@needs_nvrtc
def test_a_launch_passes_its_arguments_to_the_driver(machine: Machine):
    out = machine.run(
        LAUNCH
        + """
class Tensor:
    def data_ptr(self):
        return 0x1122334455667788
start(arguments=[Tensor(), ctypes.c_uint32(7), None, ctypes.c_float(1.0), ctypes.c_int64(-2)])
print(launch.module("replaced_token_labels.cu", 0).origin)
""",
        STUB_SIZES="84848",
    )
    assert out == "compiled\n"
    assert machine.calls() == [
        "init 0",
        "retain 0",
        "push 0x1000",
        "load 1",
        "pop",
        "push 0x1000",
        "function 0x2000 replaced_token_labels_fill",
        "launch 0x3000 5,1,1 64,1,1 0 0x77 1 8877665544332211 07000000 0000000000000000 "
        "0000803f feffffffffffffff",
        "pop",
    ]


@needs_compiler
@needs_nvrtc
def test_a_thousand_launches_load_once_on_each_device(machine: Machine):
    machine.run(
        LAUNCH
        + """
for i in range(1000):
    start(device=i % 2, shared=(0, 48 << 10, 60000, 50000, 100000)[i % 5])
"""
    )
    assert len(machine.calls("launch")) == 1000
    assert machine.calls("retain") == ["retain 0", "retain 1"]
    assert len(machine.calls("load")) == len(machine.calls("function")) == 2
    # Set only when a launch needs more than before; below 48 KiB too, since static memory counts.
    sizes = [line.split()[-1] for line in machine.calls("attribute")]
    assert sorted(sizes) == ["100000", "100000", "49152", "50000", "60000", "60000"]
    pushes = machine.calls("push")
    assert len(pushes) == len(machine.calls("pop")) == 1002
    assert pushes.count("push 0x1000") == pushes.count("push 0x1001") == 501
    # A kernel is compiled for each device's own architecture.
    assert len(list(machine.cache.glob("*.cubin"))) == 2


@needs_compiler
@needs_nvrtc
def test_the_callers_context_is_restored_after_an_error(machine: Machine):
    out = machine.run(
        LAUNCH
        + """
for kernel in ("missing", "replaced_token_labels_fill"):
    try:
        start(kernel)
    except CudaError as error:
        print(error)
try:
    start(arguments=["text"])
except ValueError as error:
    print(error)
try:
    launch.module("unpack.cu", 0).launch("k", 0, (1, 1, 1), (1, 1, 1), 0, b"12345678", [8, 4])
except CudaError as error:
    print(error)
try:
    launch.module("nothing.cu", 0)
except CudaError as error:
    print(error)
""",
        STUB_LAUNCH="700",
    )
    assert out.splitlines() == [
        "cuModuleGetFunction of missing failed: reported by the stub (500)",
        "cuLaunchKernel of replaced_token_labels_fill failed: reported by the stub (700)",
        "an argument of a kernel is a str, expected ctypes or a tensor",
        "the arguments have 8 bytes, which does not match the sizes [8, 4], each 4 or 8",
        'there is no CUDA source "nothing.cu", expected one of apply_lora.cu, '
        "replaced_token_labels.cu, sample_replacements.cu, unpack.cu",
    ]
    assert len(machine.calls("push")) == len(machine.calls("pop"))


@needs_compiler
@needs_nvrtc
def test_a_forked_child_gets_an_error_that_says_so(machine: Machine):
    out = machine.run(
        LAUNCH
        + """
import os
start()
if os.fork() == 0:
    try:
        start()
    except CudaError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
start()
"""
    )
    assert (
        "CUDA cannot be used in this process, because it was forked from a process that used CUDA"
        in out
    )
    assert len(machine.calls("launch")) == 2


@needs_compiler
@needs_nvrtc
def test_an_image_that_the_driver_refuses_is_skipped(machine: Machine, tmp_path: Path):
    """A wheel may hold images of a newer compiler, which an old driver refuses."""
    names = launch.nvrtc_names()
    shipped = tmp_path / "shipped"
    _core.cuda_compile(SOURCE, "sm_90", nvrtc=names, cache=None, shipped=shipped)
    code = f"""
from pathlib import Path
launch.SHIPPED = Path({str(shipped)!r})
try:
    print(launch.module({SOURCE!r}, 0).origin)
except CudaError as error:
    print(error)
"""
    assert machine.run(code, METRO_FAST_NVRTC="/no/nvrtc") == "shipped\n"
    assert not machine.cache.exists()
    assert machine.run(code, STUB_REFUSED="1") == "compiled\n"
    assert machine.run(code, STUB_REFUSED="1") == "cache\n"
    assert machine.run(code, STUB_REFUSED="2") == "compiled\n"
    assert machine.run(code, STUB_REFUSED="3").startswith(f"{SOURCE} cannot be loaded: shipped: ")
    out = machine.run(code, STUB_REFUSED="1", METRO_FAST_NVRTC="/no/nvrtc")
    assert "NVRTC (it is installed with torch for CUDA, or by pip install nvidia-cuda-nvrtc)" in out


def compiled(cache: Path) -> tuple[bytes, str]:
    names = launch.nvrtc_names()
    return _core.cuda_compile(SOURCE, "sm_90", nvrtc=names, cache=cache, shipped=None)


@needs_nvrtc
def test_a_cached_kernel_is_used_again_unless_it_is_damaged(tmp_path: Path):
    cache = tmp_path / "a" / "cache"
    cubin, origin = compiled(cache)
    assert origin == "compiled"
    assert cubin[:4] == b"\x7fELF"
    (file,) = cache.iterdir()
    assert cache.stat().st_mode & 0o777 == 0o700
    assert compiled(cache) == (cubin, "cache")
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (b"", whole[:7], whole[:39], whole[:-1], bytes(flipped), whole + b"x"):
        file.write_bytes(damaged)
        assert compiled(cache) == (cubin, "compiled")
        assert file.read_bytes() == whole
        assert compiled(cache)[1] == "cache"
    assert list(cache.iterdir()) == [file]


@needs_nvrtc
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes, links and modes")
@pytest.mark.parametrize("planted", ["link", "pipe", "folder open to all", "link to a folder"])
def test_what_another_user_could_plant_is_not_read(tmp_path: Path, planted: str):
    cache = tmp_path / "cache"
    cubin, _ = compiled(cache)
    (file,) = cache.iterdir()
    if planted == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    elif planted == "pipe":
        file.unlink()
        os.mkfifo(file)
    elif planted == "folder open to all":
        cache.chmod(0o777)
    else:
        cache.rename(tmp_path / "elsewhere")
        cache.symlink_to(tmp_path / "elsewhere")
    found, origin = compiled(cache)
    assert found == cubin
    if planted in ("link", "pipe"):  # replaced by a file of our own
        assert origin == "compiled"
        assert (file.is_symlink(), file.is_fifo()) == (False, False)
        assert compiled(cache)[1] == "cache"
    else:
        reason = "lets other users write" if "open" in planted else "it is a link"
        assert origin.startswith("compiled; not kept: ")
        assert reason in origin


@needs_nvrtc
def test_a_folder_that_cannot_be_written_to_is_reported(tmp_path: Path):
    # Below a file: not even root can make a folder there.
    (tmp_path / "file").write_text("")
    cubin, origin = compiled(tmp_path / "file" / "cache")
    assert cubin[:4] == b"\x7fELF"
    assert origin.startswith("compiled; not kept: ")
    assert "file/cache" in origin
    assert compiled(tmp_path / "file" / "cache")[0] == cubin


@needs_nvrtc
@pytest.mark.slow  # sixteen interpreters, each of which compiles a kernel
def test_sixteen_processes_on_an_empty_cache(tmp_path: Path):
    cache = tmp_path / "cache"
    code = f"""
import hashlib
from metro_fast import _core
from metro_fast.ops.cuda import launch
for _ in range(5):
    places = dict(nvrtc=launch.nvrtc_names(), cache={str(cache)!r}, shipped=None)
    cubin, _ = _core.cuda_compile({SOURCE!r}, "sm_90", **places)
    print(hashlib.sha256(cubin).hexdigest())
"""

    def one(_: int) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(16) as pool:
        found = {line for out in pool.map(one, range(16)) for line in out.splitlines()}
    assert len(found) == 1
    (file,) = cache.iterdir()
    assert file.suffix == ".cubin"
    assert compiled(cache)[1] == "cache"


def test_places_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("METRO_FAST_CACHE", str(tmp_path / "own"))
    assert launch.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("METRO_FAST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert launch.cache_folder() == tmp_path / "metro_fast"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert launch.cache_folder() == tmp_path / ".cache" / "metro_fast"
    monkeypatch.setenv("METRO_FAST_NVRTC", "/there/libnvrtc.so")
    assert launch.nvrtc_names() == ["/there/libnvrtc.so"]
    status = dict(launch.status())
    assert "was not found" in status["NVRTC"]
    assert status["CUDA kernels"].endswith(f"to be kept at {tmp_path / '.cache' / 'metro_fast'}")
    assert list(tmp_path.iterdir()) == []  # the check whether it can be made leaves nothing


@pytest.mark.parametrize("there", [False, True])
def test_env_reports_a_folder_that_cannot_be_written_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool
):
    # Not even root can make a folder in /proc or below a file.
    (tmp_path / "file").write_text("")
    for folder in (Path("/proc/self"),) if there else (Path("/proc/no"), tmp_path / "file" / "no"):
        monkeypatch.setenv("METRO_FAST_CACHE", str(folder))
        status = dict(launch.status())["CUDA kernels"]
        assert str(folder) in status
        assert "cannot be written to: " in status


def test_env_reports_shipped_kernels_and_the_cache_of_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "a.cubin").write_bytes(b"")
    monkeypatch.setattr(launch, "SHIPPED", shipped)
    monkeypatch.setenv("METRO_FAST_CACHE", str(tmp_path / "own"))
    texts = [text for name, text in launch.status() if name == "CUDA kernels"]
    assert texts == [
        f"1 shipped at {shipped}",
        f"compiled at first use, to be kept at {tmp_path / 'own'}",
    ]


@needs_compiler
def test_env_reports_driver_and_compiler(machine: Machine):
    out = machine.run("for line in launch.status(): print(*line)")
    assert "CUDA driver for CUDA 13.2\n" in out
    assert "GPU 0 Stub 0, sm_90, 132 multiprocessors\n" in out
    assert "GPU 1 Stub 1, sm_80, 132 multiprocessors\n" in out
