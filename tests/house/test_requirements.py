"""The lowest versions that we allow are tested, and none of them has a known hole."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Holes in code that reads what strangers wrote: the first version without each.
FIXED_IN = [
    (
        "jinja2",
        "3.1.6",
        "CVE-2025-27516: |attr reaches str.format, and so the environment, out of the sandbox",
    ),
    ("torch", "2.10.0", "CVE-2026-24747: a file that weights_only unpickles can corrupt memory"),
    (
        "filelock",
        "3.20.3",
        "CVE-2025-68146, CVE-2026-22701: the lock file can be a link of another user",
    ),
    ("protobuf", "5.29.6", "CVE-2025-4565, CVE-2026-0994: nested messages overflow the stack"),
    ("orjson", "3.11.6", "CVE-2025-67221: nested values overflow the stack"),
    ("sentencepiece", "0.2.1", "CVE-2026-1260: a tokenizer model writes beyond a buffer"),
    ("pyarrow", "14.0.1", "CVE-2023-47248: a file of another program runs code"),
    ("tqdm", "4.66.3", "CVE-2024-34062: arguments of its command line are evaluated"),
    ("pyyaml", "5.4", "CVE-2020-14343: full_load runs code"),
]


def floors() -> dict[str, Version]:
    """The lower bound of each requirement of the package and its extras."""
    lines = [
        *PROJECT["dependencies"],
        *(each for extra in PROJECT["optional-dependencies"].values() for each in extra),
    ]
    bounds: dict[str, Version] = {}
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        if name == "metro-fast":
            continue
        lower = [each.version for each in requirement.specifier if each.operator == ">="]
        assert len(lower) == 1, f"{requirement} has no lower bound"
        assert bounds.setdefault(name, Version(lower[0])) == Version(lower[0]), (
            f"two bounds for {name}"
        )
    return bounds


def lowest() -> dict[str, Version]:
    """The versions that `make test-lowest` installs."""
    text = (ROOT / "requirements" / "lowest.txt").read_text(encoding="utf-8")
    pairs = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", text, re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_the_lowest_allowed_versions_are_the_ones_that_are_tested() -> None:
    bounds, tested = floors(), lowest()
    assert {name: tested[name] for name in bounds} == bounds


@pytest.mark.parametrize(("name", "fixed", "hole"), FIXED_IN, ids=[each[0] for each in FIXED_IN])
def test_no_version_with_a_known_hole_is_allowed(name: str, fixed: str, hole: str) -> None:
    assert floors()[name] >= Version(fixed), hole
