"""Each promise of SECURITY.md names the tests that hold it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tests_of_each_promise_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`((?:tests|fuzz)/[\w/.]+)`", row) for row in rows]
    assert len(rows) >= 14
    assert all(named)
    assert [path for row in named for path in row if not (ROOT / path).exists()] == []
