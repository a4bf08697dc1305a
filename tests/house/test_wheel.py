"""A wheel for Linux that asks for a newer glibc than pyproject.toml promises is turned down."""

import runpy
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = str(ROOT / "tests" / "check_wheel.py")
LIBRARY = "metro_fast/_core.abi3.so"
MATURIN = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["maturin"]
MAJOR, MINOR = (int(part) for part in MATURIN["compatibility"].split("_")[1:])
PROMISED = f"glibc {MAJOR}.{MINOR}"
KEPT = f"manylinux_{MAJOR}_{MINOR}_x86_64"


def wheel_with(folder: Path, tags: str, *needed: str) -> Path:
    """Write a wheel with these tags whose library names these versions of symbols."""
    wheel = folder / f"metro_fast-0.1.0-cp311-abi3-{tags}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(LIBRARY, b"\x7fELF\xff\0" + "\0".join(needed).encode() + b"\0")
    return wheel


def complaint(wheel: Path) -> str:
    done = subprocess.run([sys.executable, CHECK, wheel], capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize("minor", [MINOR + 1, 100])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_tag_newer_than_promised(tmp_path: Path, minor: int, machine: str) -> None:
    tags = f"manylinux_{MAJOR}_{minor}_{machine}"
    said = complaint(wheel_with(tmp_path, tags, "GLIBC_2.2.5"))
    assert f"its tag is {tags}, but wheels are promised for {PROMISED}" in said


def test_a_tag_that_promises_nothing(tmp_path: Path) -> None:
    said = complaint(wheel_with(tmp_path, "linux_x86_64", "GLIBC_2.2.5"))
    assert f"its tag is linux_x86_64, but wheels are promised for {PROMISED}" in said


def test_a_library_newer_than_its_tag(tmp_path: Path) -> None:
    newer = f"GLIBC_{MAJOR}.{MINOR + 1}"
    said = complaint(wheel_with(tmp_path, KEPT, "GLIBC_2.2.5", newer, "GLIBC_2.9"))
    assert f"{LIBRARY} needs glibc {MAJOR}.{MINOR + 1}, not {PROMISED}" in said


@pytest.mark.parametrize("tags", [KEPT, f"manylinux2014_x86_64.{KEPT}", "manylinux_2_5_x86_64"])
def test_a_wheel_that_keeps_the_promise(tmp_path: Path, tags: str) -> None:
    fault_of_age = runpy.run_path(CHECK)["fault_of_age"]
    needed = f"GLIBC_{MAJOR}.{MINOR}"
    assert fault_of_age(wheel_with(tmp_path, tags, "GLIBC_2.2.5", needed)) is None


@pytest.mark.parametrize("tags", ["macosx_11_0_arm64", "win_amd64"])
def test_other_systems_have_no_glibc(tmp_path: Path, tags: str) -> None:
    assert runpy.run_path(CHECK)["fault_of_age"](wheel_with(tmp_path, tags)) is None


@pytest.mark.parametrize("page", ["README.md", "RELEASE.md"])
def test_the_pages_name_the_promised_glibc(page: str) -> None:
    assert PROMISED in (ROOT / page).read_text(encoding="utf-8")
