"""`metro-fast curves` from the command line."""

import json
from pathlib import Path

from typer.testing import CliRunner

from metro_fast.cli.curves import app


def test_it_writes_the_page_and_names_it(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        lines = [json.dumps({"step": step, "loss": 3.0 / step}) for step in (1, 2)]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(lines))
    page = tmp_path / "page.html"
    done = CliRunner().invoke(
        app, [str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(page)]
    )
    assert done.exit_code == 0
    assert f"wrote {page}" in done.output.replace("\n", "")
    assert page.read_text().count("<polyline") == 2
