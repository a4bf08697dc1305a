"""The house plan, held by tests: direction of imports, what an import may bring, one version."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import import_graph
import import_graph_page
import metro_fast
import metro_fast.ops

ROOT = Path(__file__).resolve().parents[2]


def test_no_room_imports_to_its_right(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print("\n" + import_graph_page.render())
    assert import_graph.violations() == []


def test_a_wrong_import_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {("ops", "data"): ["ops/x.py"], ("metro", "tuning"): ["metro/x.py"]}
    real = import_graph.python_edges()
    monkeypatch.setattr(import_graph, "python_edges", lambda: {**real, **extra})
    assert import_graph.violations() == [
        "metro imports tuning (metro/x.py)",
        "ops imports data (ops/x.py)",
    ]


def test_a_wrong_import_inside_experts_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {("hub", "expert"): ["hub/x.py"], ("merging", "plain"): ["merging/x.py"]}
    real = import_graph.inner_edges("experts")
    monkeypatch.setattr(import_graph, "inner_edges", lambda outer: {**real, **extra})
    assert import_graph.violations() == [
        "hub imports expert (hub/x.py)",
        "merging imports plain (merging/x.py)",
    ]


def test_nothing_imports_in_a_circle() -> None:
    assert import_graph.all_circles() == []


def test_a_circle_would_be_seen() -> None:
    pairs = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("e", "e")]
    assert import_graph.circles(pairs) == [["b", "c"], ["e"]]


def test_every_part_of_experts_has_a_level() -> None:
    parts = {path.stem for path in (import_graph.PACKAGE / "experts").iterdir()}
    assert parts - {"__init__", "__pycache__"} == set(import_graph.EXPERTS)


def test_every_room_has_a_level() -> None:
    folders = {path.name for path in import_graph.PACKAGE.iterdir() if path.is_dir()}
    assert {name for name in folders if not name.startswith("_")} <= set(import_graph.LEVELS)


def test_architecture_page_holds_the_measured_graph() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert import_graph_page.embed(page) == page, "docs/architecture.md is stale: run `make docs`"


@pytest.mark.parametrize("module", ["metro_fast", "metro_fast.ops"])
def test_import_brings_numpy_and_the_standard_library_only(module: str) -> None:
    code = f"""
import sys
class Blocked:
    names = ("torch", "transformers", "peft", "accelerate", "datatrove", "typer", "rich", "yaml")
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ImportError(f"blocked: {{name}}")
sys.meta_path.insert(0, Blocked())
import numpy
before = set(sys.modules)
import {module}
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
allowed = set(sys.stdlib_module_names) | {{"numpy", "metro_fast", "_core"}}
print(sorted(new - allowed))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("room", ["data", "experts", "prompts"])
def test_rooms_of_the_middle_import_without_torch(room: str) -> None:
    code = f"import sys, metro_fast.{room}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_op_has_one_name_at_every_level() -> None:
    ops = {name for name in metro_fast.ops.__all__ if name.islower()}
    ops -= {"compute_input_and_target_lengths", "metro_t0_baseline", "ul2_denoisers"}
    for level in (
        "python/metro_fast/ops/{}.py",
        "python/metro_fast/testing/{}.py",
        "tests/ops/test_{}.py",
        "benches/bench_{}.py",
    ):
        assert [op for op in sorted(ops) if not (ROOT / level.format(op)).is_file()] == []
    rust = "".join(path.read_text() for path in (ROOT / "rust/core/src").rglob("*.rs"))
    for op in sorted(ops):
        assert hasattr(metro_fast._core, op)
        assert re.search(rf"pub fn {op}\b", rust), op


def test_one_version_number() -> None:
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    assert metro_fast.__version__ == cargo["workspace"]["package"]["version"]


def test_a_missing_extra_is_named_with_its_command() -> None:
    from metro_fast._extras import require

    with pytest.raises(metro_fast.MissingExtraError, match=r"pip install 'metro_fast\[peft\]'"):
        require("no_such_module_at_all", "peft")
