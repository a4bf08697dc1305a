"""Values of a megabyte in tasks, wordings and tables: a message stays a few lines long."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metro_fast.errors import MetroFastError
from metro_fast.prompts import Instruction, InstructionSet, Item, Task
from metro_fast.prompts.importers import import_flan
from metro_fast.prompts.readers import read_bbh, read_fewrel, read_mmlu, read_table

LONG = "x" * 10**6
MOST = 2000


def item(**change: Any) -> str:
    return json.dumps({"id": "1", "fields": {}, "choices": ["a", "b"], "answer": 0, **change})


def wording(**change: Any) -> str:
    return json.dumps([{"id": "a", "task_type": "t", "text": "{{ x }}", **change}])


def table(path: Path) -> object:
    return read_table(path, task_type="qa", answer="answer")


CASES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    **{
        f"item, {field}": (Task.load, "a.jsonl", item(**{field: value}))
        for field, value in {
            "id": [LONG],
            "fields": [LONG],
            "choices": LONG,
            "answer": LONG,
            "group": [LONG],
            "target": LONG,
            "metric": LONG,
            "task": [LONG],
            LONG: 1,
        }.items()
    },
    "an id twice": (Task.load, "a.jsonl", "\n".join([item(id=LONG)] * 2)),
    "two tasks": (Task.load, "a.jsonl", item(task=LONG) + "\n" + item(id="2", task="q")),
    **{
        f"wording, {field}": (InstructionSet.load, "a.json", wording(**{field: value}))
        for field, value in {
            "id": [LONG],
            "task_type": [LONG],
            "text": [LONG],
            "seen_by": LONG,
            "target": [LONG],
            LONG: 1,
        }.items()
    },
    "flan": (lambda p: import_flan(p).report.check(), "a.json", json.dumps({LONG: [[LONG]]})),
    "bbh": (read_bbh, "a.json", json.dumps({"examples": [LONG]})),
    "fewrel": (read_fewrel, "a.json", json.dumps({LONG: [{"tokens": LONG}]})),
    "mmlu": (read_mmlu, "a.json", json.dumps({"input": LONG, "output": LONG})),
    "a column": (table, "a.jsonl", json.dumps({LONG: 1})),
    "a row": (table, "a.csv", f"{LONG},b\n1,2\n"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_long_value_is_cut(tmp_path: Path, name: str) -> None:
    read, file, text = CASES[name]
    (tmp_path / file).write_text(text)
    with pytest.raises((MetroFastError, TypeError)) as caught:
        read(tmp_path / file)
    assert len(str(caught.value)) <= MOST


@pytest.mark.parametrize(
    ("text", "fields", "choices"),
    [
        ("{{ y }}", {LONG: 1}, ("a", "b")),
        (f"{{{{ y{LONG[:50_000]} }}}}", {"x": 1}, ("a", "b")),
        ("{{ x }}", {"x": 1}, (LONG, LONG)),
        ("{{ x }}", {"x": 1}, (LONG, " ")),
    ],
    ids=["field", "name", "twice", "blank"],
)
def test_a_wording_that_does_not_fit(
    text: str, fields: dict[str, Any], choices: tuple[str, ...]
) -> None:
    with pytest.raises(MetroFastError) as caught:
        Instruction("a", "t", text).render(Item(LONG, fields, choices, 0))
    assert len(str(caught.value)) <= MOST
