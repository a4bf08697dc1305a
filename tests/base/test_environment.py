"""Each environment variable with a value that it cannot have, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from metro_fast._environment import VARIABLES

THREADS = "from metro_fast.ops.draws import default_threads; print(default_threads())"
SIMD = "from metro_fast import _core; print(_core.simd_level())"
CACHE = "from metro_fast.ops.cuda import launch; print(launch.cache_folder())"
NVRTC = "from metro_fast.ops.cuda import launch; print(launch.nvrtc_names())"
DECODED = "from metro_fast._memory import decoded_limit; print(decoded_limit())"
FOLDER = (
    "from metro_fast._environment import chosen_folder; print(chosen_folder({!r}, exists=True))"
)

GARBAGE = [
    *(("NUM_THREADS", THREADS, each) for each in ("x", "0", "-1", "+2", "1.5", " 4", "9" * 30)),
    *(("NUM_THREADS", THREADS, each) for each in ("1025", "4\x1b[2J", "\u0664", "\udcff")),
    *(("MAX_DECODED_BYTES", DECODED, each) for each in ("x", "-1", "1.5", " 4", "1" * 30)),
    *(("SIMD", SIMD, each) for each in ("x", "AVX2", " avx2", "x" * 100_000, "\x1b[2J", "\udcff")),
    *(("CACHE", CACHE, each) for each in ("x", "~/x", "../x", "/" + "x" * 5000, __file__)),
    *(("EXPERTS", FOLDER.format("METRO_FAST_EXPERTS"), each) for each in ("x", "/none/x")),
    *(("EXPERTS", FOLDER.format("METRO_FAST_EXPERTS"), each) for each in (__file__, "\x1b[2J")),
    *(("NVRTC", NVRTC, each) for each in ("/", "/" + "x" * 5000)),
]


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("METRO_FAST_")}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment | variables, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("name", "code", "value"), GARBAGE, ids=lambda value: repr(value)[:20])
def test_garbage_is_refused(name: str, code: str, value: str) -> None:
    done = run(code, **{f"METRO_FAST_{name}": value})
    message = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert f"MetroFastError: METRO_FAST_{name} is " in message
    assert len(message) < 400
    assert message.isprintable()


@pytest.mark.parametrize(
    ("name", "code"),
    [("NUM_THREADS", THREADS), ("SIMD", SIMD), ("CACHE", CACHE), ("NVRTC", NVRTC)],
)
def test_an_empty_variable_is_an_unset_one(name: str, code: str) -> None:
    assert run(code, **{f"METRO_FAST_{name}": ""}).stdout == run(code).stdout != ""


def test_an_unknown_variable_is_told_with_the_one_that_may_be_meant() -> None:
    done = run("import metro_fast", METRO_FAST_NUM_THREAD="3")
    assert (
        "METRO_FAST_NUM_THREAD has no effect: did you mean METRO_FAST_NUM_THREADS?" in done.stderr
    )
    assert run("import metro_fast", METRO_FAST_CACHE="/x").stderr == ""


def test_no_variable_that_is_read_is_called_unknown() -> None:
    root = Path(__file__).parents[2]
    files = [*(root / "python").rglob("*.py"), *(root / "rust").rglob("*.rs")]
    named = {
        name
        for file in files
        for name in re.findall(r"\"(METRO_FAST_[A-Z0-9_]+)\"", file.read_text("utf-8"))
    }
    assert "METRO_FAST_MAX_DECODED_BYTES" in named
    done = run("import metro_fast", **dict.fromkeys(named, ""))
    assert done.stderr == ""


def test_the_page_lists_every_variable() -> None:
    page = (Path(__file__).parents[2] / "docs/environment.md").read_text("utf-8")
    of_tests = ("EVERY_STEP", "FULL", "KILLS", "KILL_SEED", "METRO_T0", "NANOT5")
    for name in VARIABLES - {f"METRO_FAST_{each}" for each in of_tests}:
        assert f"| `{name}` |" in page
