"""`metro-fast prompts`: import, read and check from the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metro_fast.cli import prompts_check, prompts_import, prompts_read
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts import InstructionSet, Task


def invoke(app, *arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output.replace("\n", " ")


def test_wordings_are_imported_with_their_counts(tmp_path: Path) -> None:
    (tmp_path / "flan.json").write_text(json.dumps({"rte": [["{x}\n{options_}", "{answer}"], [3]]}))
    arguments = (tmp_path / "flan.json", "--kind", "flan", "--output", tmp_path / "words.yaml")
    assert "1 of 2 taken (not a pair of texts: 1)" in invoke(prompts_import.app, *arguments)
    words = InstructionSet.load(tmp_path / "words.yaml")
    assert [(i.id, i.task_type, i.seen_by) for i in words] == [("flan/rte/0", "rte", ("flan-t5",))]
    with pytest.raises(FormatError, match="1 of 2 taken"):
        invoke(prompts_import.app, *arguments, "--strict")
    (tmp_path / "list.json").write_text(json.dumps({"rte": ["{content}?"]}))
    invoke(
        prompts_import.app, tmp_path / "list.json", "--kind", "promptbench", "--output",
        tmp_path / "b.json", "--task-type", "nli", "--seen-by", "a", "--seen-by", "b",
    )  # fmt: skip
    assert [(i.task_type, i.seen_by) for i in InstructionSet.load(tmp_path / "b.json")] == [
        ("nli", ("a", "b"))
    ]


def test_a_task_is_read_and_checked(tmp_path: Path) -> None:
    table = tmp_path / "nli.csv"
    table.write_text("premise,hypothesis,gold\nIt rains.,It is wet.,yes\nX,Y,no\nshort\n")
    items, words = tmp_path / "nli.jsonl", tmp_path / "words.yaml"
    output = invoke(
        prompts_read.app, table, "--kind", "table", "--task-type", "nli", "--answer", "gold",
        "--output", items,
    )  # fmt: skip
    assert "2 of 3 taken (missing column: 1)" in output
    assert [item.answer_text for item in Task.load(items)] == ["yes", "no"]
    invoke(prompts_import.app, "nli", "--kind", "own", "--output", words)
    output = invoke(prompts_check.app, "--tasks", items, "--instructions", words, "--show")
    assert output.count("2 of 2") == 25
    assert "--- nli, nli/seen/2 Premise: It rains. Hypothesis: It is wet." in output


def test_rows_of_json_are_items_with_the_choices_that_are_named(tmp_path: Path) -> None:
    rows = [{"text": "dull", "label": 0}, {"text": "fine", "label": 1}, {"text": "?"}]
    lines = "\n".join(map(json.dumps, rows))
    (tmp_path / "films.jsonl").write_text(f"\ufeff{lines}\n\n", encoding="utf-8")
    items = tmp_path / "items.jsonl"
    table = (
        tmp_path / "films.jsonl", "--kind", "table", "--task-type", "sentiment", "--answer",
        "label", "--output", items,
    )  # fmt: skip
    output = invoke(prompts_read.app, *table, "--choice", "negative", "--choice", "positive")
    assert "2 of 3 taken (missing column: 1)" in output
    task = Task.load(items)
    assert [(item.fields["text"], item.answer_text) for item in task] == [
        ("dull", "negative"),
        ("fine", "positive"),
    ]
    invoke(prompts_read.app, *table)
    assert [item.choices for item in Task.load(items)] == [("0", "1")] * 2
    with pytest.raises(MetroFastError, match="--choice and --choice-column are both given"):
        invoke(prompts_read.app, *table, "--choice", "a", "--choice-column", "text")
    (tmp_path / "films.jsonl").write_text('{"text": "a", "label": 0}\n["b", 1]\n')
    with pytest.raises(FormatError, match=r"films\.jsonl:2 holds a list; give a JSON object"):
        invoke(prompts_read.app, *table)


def test_a_file_that_holds_no_items_says_how_to_make_them(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": 0}\n')
    with pytest.raises(FormatError, match=r"lacks id, .* prompts read FILE --kind table"):
        Task.load(tmp_path / "rows.jsonl")


def test_check_counts_and_refuses_on_demand(tmp_path: Path) -> None:
    record = {"id": "1", "task": "t", "task_type": "qa", "fields": {}, "choices": ["a", "a"]}
    (tmp_path / "t.jsonl").write_text(json.dumps(record | {"answer": 0}))
    words = tmp_path / "words.json"
    words.write_text(json.dumps([{"id": "ask", "task_type": "qa", "text": "Why?"}]))
    arguments = ("--tasks", tmp_path / "t.jsonl", "--instructions", words)
    assert "0 of 1" in invoke(prompts_check.app, *arguments)
    with pytest.raises(MetroFastError, match="1 times an instruction cannot word an item"):
        invoke(prompts_check.app, *arguments, "--strict")
    words.write_text("[]")
    with pytest.raises(MetroFastError, match="no instruction of type 'qa'"):
        invoke(prompts_check.app, *arguments)
    with pytest.raises(MetroFastError, match=r"a table needs --task-type, .* and --answer"):
        invoke(prompts_read.app, words, "--kind", "table", "--output", tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("semeval", "a.txt", '1\t"<e1>a</e1> <e2>b</e2>"\nOther\n'),
        ("bbh", "a.json", '{"examples": [{"input": "1 + 1 =", "target": "2"}]}'),
        ("mmlu", "a.csv", "Why?,w,x,y,z,A\n"),
        ("fewrel", "a.json",
         '{"P": [{"tokens": ["a", "b"], "h": ["a", "", [[0]]], "t": ["b", "", [[1]]]}], "Q": []}'),
        ("story-cloze", "a.csv",
         "InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4,"
         "RandomFifthSentenceQuiz1,RandomFifthSentenceQuiz2,AnswerRightEnding\na,b,c,d,e,f,g,1\n"),
    ],
)  # fmt: skip
def test_every_kind_is_read(tmp_path: Path, kind: str, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    arguments = (tmp_path / name, "--kind", kind, "--output", tmp_path / "t.jsonl", "--strict")
    assert "1 of 1 taken" in invoke(prompts_read.app, *arguments)
    assert len(Task.load(tmp_path / "t.jsonl")) == 1
