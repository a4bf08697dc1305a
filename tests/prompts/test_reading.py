"""One item in several readings: choices, answers, kinds, rejects, and the files of before."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts import (
    Instruction,
    InstructionSet,
    Item,
    Prompt,
    Reject,
    RejectError,
    Task,
    by_reason,
    render_examples,
    render_items,
)
from metro_fast.prompts.wording import letters

ITEM = Item("1", {"question": "Two and two?", "rows": [[1, "a"], [2, "b"]]}, ("3", "4", "5"), 1)
# Written by the version before instructions had choices and items had targets.
OLD_TASK = (
    '{"task": "capitals", "task_type": "qa", "split": "dev", "id": "1", "fields": {"q": "Où ?"}, '
    '"choices": ["Oslo", "Paris"], "answer": 1, "group": null}\n'
)
OLD_TASK_SHA = "758bef4102c6fe8af12fe438ca39dfe45cd201e5db55d0211eee7d8b9df4d41e"
OLD_SET = """- id: ask
  task_type: qa
  text: '{{ q }} {{ options }}'
  seen_by:
  - t0
  origin: human
  style: task
  license: ''
"""
OLD_SET_SHA = "f41e994220d52acc9944caf5877e07532439b6dc05b05cc7552dccc8b9d604ef"


def ask(text: str = "{{ question }}", **changes: object) -> Instruction:
    return Instruction("ask", "qa", text, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        (ask(), Prompt("Two and two?", ("3", "4", "5"), 1, "4")),
        (ask(choices=["three", "four", "five"]), ("three", "four", "five")),
        (ask(choices="{{ letters | join('|||') }}"), ("A", "B", "C")),
        (ask(choices="{% for c in choices %}<{{ c }}>{{ '|||' if not loop.last }}{% endfor %}"),
         ("<3>", "<4>", "<5>")),
        (ask(choices="yes ||| no", target="no"), Prompt("Two and two?", ("yes", "no"), 1, "no")),
        (ask(choices=[], target="{{ rows[1][1] }}"), Prompt("Two and two?", (), None, "b")),
        (ask(choices=[]), Prompt("Two and two?", (), None, "4")),
    ],
)  # fmt: skip
def test_an_item_is_asked_in_several_readings(instruction, expected) -> None:
    prompt = instruction.render(ITEM)
    if isinstance(expected, tuple):
        behind = ITEM.choices if expected == ("A", "B", "C") else ()
        expected = Prompt("Two and two?", expected, 1, expected[1], behind)
    assert prompt == expected


@pytest.mark.parametrize(
    ("instruction", "item", "reason"),
    [
        (ask(choices=["a", "b"]), ITEM, "unequal counts"),
        (ask(choices="a ||| a ||| b"), ITEM, "duplicate choices"),
        (ask(choices="a ||| ||| b"), ITEM, "empty choice"),
        (ask(choices="a"), ITEM, "fewer than two choices"),
        (ask(choices=["a", "b"], target="c"), ITEM, "no answer among the choices"),
        (ask(target=" "), ITEM, "blank target"),
        (ask(" {% if question == 'x' %}x{% endif %}"), ITEM, "blank input"),
        (ask("{{ passage }}"), ITEM, "undefined field"),
        (ask("{{ rows[0][0] + question }}"), ITEM, "failing expression"),
        (ask("{{ question }}", syntax="promptsource"), ITEM, "no single target"),
        (ask(), Item("1", {"question": "?"}, ("a", "a"), 0), "duplicate choices"),
        (ask(), Item("1", {"question": "?"}, ("a", " "), 0), "empty choice"),
        (ask(), Item("1", {"question": "?"}, ("a", "b"), target="c"),
         "no answer among the choices"),
        (ask(choices=["a", "b"]), Item("1", {"question": "?"}, target="c"),
         "no answer among the choices"),
    ],
)  # fmt: skip
def test_what_cannot_be_worded_is_counted_by_reason(instruction, item, reason) -> None:
    good = Item("2", {"question": "x", "passage": "x", "rows": [["x"]]}, ("a", "b"), 0)
    found = render_items(instruction, [item, item])
    assert by_reason(found.rejects) == {reason: 2}
    assert found.items == found.prompts == ()
    assert [reject.item_id for reject in found.rejects] == ["1", "1"]
    assert len(render_items(ask(), [item, good]).items) >= 1
    with pytest.raises(RejectError, match="instruction 'ask', item '1'") as raised:
        render_items(instruction, [item], strict=True)
    # Errors of worker processes arrive pickled.
    again = pickle.loads(pickle.dumps(raised.value))
    assert isinstance(again.reject, Reject)
    assert (str(again), again.reject) == (str(raised.value), raised.value.reject)


def test_an_item_with_a_choice_twice_is_asked_by_letters() -> None:
    item = Item("1", {"question": "?"}, ("12", "-4", "4", "12"), 2)
    prompt = ask(choices=["A", "B", "C", "D"]).render(item)
    assert (prompt.choices, prompt.answer) == (("A", "B", "C", "D"), 2)


def test_a_reading_by_letters_has_the_texts_that_it_shows() -> None:
    text = "{% for s in statements %}{{ letters[loop.index0] }}. {{ s }}\n{% endfor %}"
    by_letters = ask(text, choices="{{ letters | join('|||') }}")
    fields = {"statements": ["1 is so", "2 is so"]}
    item = Item("1", fields, ("one", "two"), 0)
    assert by_letters.render(item).texts == ("1 is so", "2 is so")
    shown = replace(by_letters, text="{{ lettered }} {{ statements[0] }}")
    assert shown.render(item).texts == ("one", "two")
    # The letters of fewer or other options, and choices that are letters themselves.
    assert replace(by_letters, choices=("B", "A")).render(item).texts == ()
    assert ask(text).render(Item("1", fields, ("A", "B"), 0)).texts == ()
    assert by_letters.render(Item("1", fields, ("A", "B"), 0)).texts == ()


def test_a_field_may_be_named_choices_or_options() -> None:
    item = Item("1", {"choices": {"text": ["x", "y"]}, "options": "mine"}, ("a", "b"), 0)
    text = "{{ choices.text[1] }} {{ options }} {{ answer_choices[0] }} {{ letters[1] }}"
    assert ask(text).render(item).input == "y mine a B"


def test_newlines_at_the_end_are_kept() -> None:
    assert ask("{{ question }}\nAnswer:\n").render(ITEM).input.endswith("Answer:\n")


def test_a_separator_inside_of_a_field_does_not_split() -> None:
    item = Item("1", {"a": "x ||| y", "b": ["z|||"]}, target="t")
    instruction = ask(
        "{{ a }}|||{{ b[0] }}", choices="{{ a }} ||| {{ b[0] }}", syntax="promptsource"
    )
    assert instruction.render(item) == Prompt("x ||| y", ("x ||| y", "z|||"), 1, "z|||")


def test_draws_are_fixed_by_the_item_and_zip_and_most_frequent_are_there() -> None:
    text = (
        "{{ [1, 2, 3, 4, 5, 6] | choice }} {% for a, b in zip(rows, rows) %}{{ a[1] }}{% endfor %}"
    )
    text += " {{ ['x', 'y', 'y', 'x', 'z'] | most_frequent | join }}"
    drawn = set()
    for name in map(str, range(40)):
        item = Item(name, ITEM.fields, ITEM.choices, 0)
        drawn.add(ask(text).render(item).input)
        assert ask(text).render(item) == ask(text).render(item)
    assert drawn == {f"{number} ab xy" for number in range(1, 7)}


def test_letters_do_not_end_with_z() -> None:
    assert letters(3) == ["A", "B", "C"]
    assert letters(703)[25:28] == ["Z", "AA", "AB"]
    assert letters(703)[-2:] == ["ZZ", "AAA"]
    assert len(set(letters(1000))) == 1000


def test_files_of_before_load_and_keep_their_hashes(tmp_path: Path) -> None:
    (tmp_path / "task.jsonl").write_text(OLD_TASK, encoding="utf-8")
    (tmp_path / "set.yaml").write_text(OLD_SET, encoding="utf-8")
    task = Task.load(tmp_path / "task.jsonl")
    words = InstructionSet.load(tmp_path / "set.yaml")
    assert (task.sha256, words.sha256) == (OLD_TASK_SHA, OLD_SET_SHA)
    assert task.save(tmp_path / "again.jsonl").read_text(encoding="utf-8") == OLD_TASK
    assert words.save(tmp_path / "again.yaml").read_text(encoding="utf-8") == OLD_SET
    assert words[0].render(task.items[0]).input == "Où ? Oslo , Paris"


@pytest.mark.parametrize("name", ["set.yaml", "set.json"])
def test_new_keys_survive_a_file(tmp_path: Path, name: str) -> None:
    words = InstructionSet(
        [
            ask(choices=["a", "b"], kind="negated", target="{{ x }}"),
            Instruction("free", "qa", "x ||| y", choices=[], syntax="promptsource"),
            Instruction("own", "qa", "x", choices="a ||| b", kind="empty"),
        ]
    )
    assert InstructionSet.load(words.save(tmp_path / name)) == words
    assert [i.id for i in words.of_kind("negated", "empty")] == ["ask", "own"]
    items = (ITEM, Item("2", {"x": [1, None, True, {"a": 2.5}]}, target="free"))
    task = Task("t", "qa", items)
    assert Task.load(task.save(tmp_path / "task.jsonl")) == task


def test_bad_kinds_and_choices_are_named(tmp_path: Path) -> None:
    with pytest.raises(MetroFastError, match="kind is 'rude'; give one of wording, negated"):
        ask(kind="rude")
    with pytest.raises(MetroFastError, match="kind is 'rude'"):
        InstructionSet().of_kind("rude")
    with pytest.raises(MetroFastError, match="syntax is 'x'"):
        ask(syntax="x")
    with pytest.raises(TypeError, match="choices is 3"):
        ask(choices=3)
    with pytest.raises(TypeError, match="target is 3"):
        ask(target=3)
    record = ask().to_record() | {"choices": [1]}
    (tmp_path / "set.json").write_text(json.dumps([record]))
    with pytest.raises(FormatError, match=r"set\.json: instruction 1: .*choices is \[1\]"):
        InstructionSet.load(tmp_path / "set.json")


def test_finetuning_takes_the_answer_of_the_reading() -> None:
    task = Task("sums", "qa", (ITEM,))
    assert render_examples(task, [ask(choices=["A", "B", "C"])], seed=0) == [("Two and two?", "B")]
    with pytest.raises(RejectError, match="gives 2 choices, but the item has 3"):
        render_examples(task, [ask(choices=["A", "B"])], seed=0)
