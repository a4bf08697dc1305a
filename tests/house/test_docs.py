"""The code of some pages of docs/, run as a reader would paste it, and the tables of one."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from prepare_cases import environment

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "count"),
    [
        ("prepare.md", 3),
        ("streaming.md", 2),
        ("experts.md", 5),
        ("pool.md", 1),
        ("merging.md", 2),
        ("searching.md", 1),
        ("hub.md", 2),
        ("cuda.md", 1),
    ],
)
def test_the_code_of_a_page_runs(page: str, count: int, tmp_path: Path) -> None:
    """Slow: fresh interpreters that import torch. Code that needs a cluster is compiled only."""
    text = (DOCS / page).read_text("utf-8")
    blocks = re.findall(r"^```(python|bash)\n(.*?)^```", text, re.S | re.M)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = 0
    for number, (language, code) in enumerate(blocks):
        if "/shared/" in code:
            compile(code, page, "exec")
            continue
        script = tmp_path / f"block{number}.py"
        script.write_text(code)
        command = [sys.executable, str(script)] if language == "python" else ["bash", "-ec", code]
        variables = {**environment(), "PATH": path, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran == count
    if page == "prepare.md":
        files = [
            {p.name: p.read_bytes() for p in (tmp_path / name).glob("*.ds")}
            for name in ("corpus", "corpus-2", "corpus-3")
        ]
        assert files[0] == files[1] == files[2]
        assert len(files[0]) > 5


def test_the_tables_of_a_page_are_those_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    benches = DOCS.parent / "benches"
    monkeypatch.syspath_prepend(str(benches))
    embed = importlib.import_module("real_adapters_tables").embed
    result = json.loads((benches / "results/real_adapters.json").read_text("utf-8"))
    page = (DOCS / "experts.md").read_text("utf-8")
    assert page.count("<!-- table:") == 6
    assert embed(page, result) == page, "stale: run python benches/real_adapters.py"
