"""The code of README, docs/ and examples/, run as a reader would paste it."""

import importlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from warm_python import WarmPython

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```", re.S | re.M)
# How many blocks of a page run; the others need a cluster or a network, and name /shared/.
PAGES = {
    "README.md": 4,
    "docs/corpora.md": 1,
    "docs/cuda.md": 1,
    "docs/experts.md": 7,
    "docs/hub.md": 2,
    "docs/index.md": 1,
    "docs/merging.md": 2,
    "docs/metro.md": 1,
    "docs/metro-t0.md": 1,
    "docs/pool.md": 1,
    "docs/prepare.md": 3,
    "docs/prompts.md": 4,
    "docs/robustness.md": 8,
    "docs/robustness-statistics.md": 1,
    "docs/scoring.md": 3,
    "docs/searching.md": 1,
    "docs/serving.md": 2,
    "docs/streaming.md": 2,
    "docs/tokenizers.md": 2,
    "docs/tutorials/experts.md": 4,
    "docs/tutorials/finetune.md": 4,
    "docs/tutorials/own-loop.md": 1,
    "docs/tutorials/pretrain.md": 6,
    "docs/tutorials/robustness.md": 4,
    "docs/watching.md": 1,
}
EXAMPLES = ("compress_adapter", "evaluate_robustness", "stock_trainer", "swap_experts")


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmPython]:
    with WarmPython() as python:
        yield python


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of every fenced block that could run."""
    return BLOCK.findall((ROOT / page).read_text("utf-8"))


@pytest.mark.slow  # some train a tiny model
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page: str, tmp_path: Path, warm: WarmPython) -> None:
    shutil.copy(ROOT / "README.md", tmp_path)  # a text to train on
    ran = 0
    for number, (language, code) in enumerate(blocks(page)):
        if "/shared/" in code:
            if language == "python":
                compile(code, page, "exec")
            continue
        script = tmp_path / f"block{number}.py"
        script.write_text(code)
        warm.run(
            ["python", str(script)] if language == "python" else ["bash", "-ec", code], tmp_path
        )
        ran += 1
    assert ran == PAGES[page]
    if page == "README.md":
        assert [language for language, _ in blocks(page)] == ["python", "bash", "python", "python"]
        assert (tmp_path / "run" / "main" / "config.json").is_file()
        assert (tmp_path / "expert-small" / "adapter_model.compeft.safetensors").is_file()
        assert (tmp_path / "report.html").is_file()
    if page == "docs/prepare.md":
        files = [
            {p.name: p.read_bytes() for p in (tmp_path / name).glob("*.ds")}
            for name in ("corpus", "corpus-2", "corpus-3")
        ]
        assert files[0] == files[1] == files[2]
        assert len(files[0]) > 5


@pytest.mark.slow  # one trains a tiny model
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str, tmp_path: Path, warm: WarmPython) -> None:
    script = ROOT / "examples" / f"{name}.py"
    assert len(script.read_text("utf-8").splitlines()) < 80
    assert warm.run(["python", str(script)], tmp_path)


def test_every_page_with_code_is_run() -> None:
    pages = ["README.md", *(str(p.relative_to(ROOT)) for p in DOCS.rglob("*.md"))]
    assert sorted(page for page in pages if blocks(page)) == sorted(PAGES)


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    entries = (ROOT / "mkdocs.yml").read_text("utf-8").split("\nnav:\n")[1].splitlines()
    named = [entry.split()[-1] for entry in entries if entry.endswith(".md")]
    assert sorted(named) == sorted(str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md"))
    index = (DOCS / "decisions" / "index.md").read_text("utf-8")
    for page in (DOCS / "decisions").glob("0*.md"):
        assert f"({page.name})" in index, f"{page.name} is not in docs/decisions/index.md"


def test_the_tables_of_a_page_are_those_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    benches = ROOT / "benches"
    monkeypatch.syspath_prepend(str(benches))
    embed = importlib.import_module("real_adapters_tables").embed
    result = json.loads((benches / "results/real_adapters.json").read_text("utf-8"))
    page = (DOCS / "experts.md").read_text("utf-8")
    assert page.count("<!-- table:") == 6
    assert embed(page, result) == page, "stale: run python benches/real_adapters.py"


def test_the_page_of_the_study_of_a_real_model_is_what_was_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    benches = ROOT / "benches"
    monkeypatch.syspath_prepend(str(benches))
    tables = importlib.import_module("real_model_study_tables")
    result = json.loads((benches / "results/real_model_study.json").read_text("utf-8"))
    page = (benches / "results/real_model_study.md").read_text("utf-8")
    words = (benches / "real_model_study_words.md").read_text("utf-8")
    assert tables.markdown(result, words) == page, "stale: run real_model_study_report.py"
    cells = [c for c in result["cells"] if c["protocol"] == "generation, chat"]
    row = next(r for r in result["rows"] if r["protocol"] == "generation, chat")
    right = [
        answer == prediction
        for cell in cells
        if cell["task"] == row["task"]
        for answer, prediction in zip(cell["answers"], cell["predictions"], strict=True)
    ]
    assert row["accuracy"] == pytest.approx(sum(right) / len(right))
