"""Prompts: items, tasks, instructions, their files, rendering for finetuning."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts import (
    Instruction,
    InstructionSet,
    Item,
    Task,
    render_examples,
    unknown_family_warning,
)


def make_item(name: str = "1", **changes: object) -> Item:
    values = {
        "id": name,
        "fields": {"sentence": "Paris is in France.", "a": "Paris"},
        "choices": ("capital", "city"),
        "answer": 0,
    }
    return Item(**(values | changes))  # type: ignore[arg-type]


def make_task(count: int = 5) -> Task:
    return Task("relations", "re", tuple(make_item(str(i)) for i in range(count)))


INSTRUCTIONS = InstructionSet(
    [
        Instruction("plain", "re", "{{ sentence }} What of {{ a }}?", seen_by=("t0", "flan")),
        Instruction("options", "re", "{{ a }}: {{ options }}", seen_by=("flan",)),
        Instruction("listed", "re", "{% for c in choices %}- {{ c }}\n{% endfor %}"),
        Instruction("other", "qa", "{{ question }}"),
    ]
)


class TestItem:
    def test_lists_become_tuples_and_fields_are_copied(self) -> None:
        fields = {"x": "1"}
        item = Item("1", fields, ["a", "b"], 1)  # type: ignore[arg-type]
        fields["x"] = "2"
        assert item.choices == ("a", "b")
        assert item.fields == {"x": "1"}
        assert item.answer_text == "b"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"choices": ("one",)}, "1 choices; give at least 2"),
            ({"choices": ()}, "0 choices"),
            ({"answer": 2}, "answer 2 is out of range; 2 choices have the indices 0 to 1"),
            ({"answer": -1}, "answer -1 is out of range"),
            ({"id": ""}, "item id is empty"),
            ({"target": "city"}, "answer 0 and the target 'city'; give one"),
            ({"choices": (), "answer": None}, "0 choices; give at least 2, or none and a target"),
            ({"fields": {"x": float("nan")}}, "field 'x' is nan, which JSON cannot hold"),
        ],
    )
    def test_bad_values_are_named(self, changes: dict[str, object], message: str) -> None:
        with pytest.raises(MetroFastError, match=message):
            make_item(**changes)

    @pytest.mark.parametrize(
        "changes",
        [
            {"answer": True},
            {"answer": 0.0},
            {"answer": "0"},
            {"choices": "ab"},
            {"choices": (1, 2)},
            {"choices": None},
            {"fields": {"x": {1}}},
            {"fields": {"x": [b"1"]}},
            {"fields": {"x": {2: "1"}}},
            {"fields": {1: "x"}},
            {"target": 3, "answer": None},
            {"answer": None},
            {"fields": [("x", "1")]},
            {"group": 3},
            {"id": 7},
        ],
    )
    def test_wrong_types_are_type_errors(self, changes: dict[str, object]) -> None:
        with pytest.raises(TypeError):
            make_item(**changes)


class TestTask:
    def test_round_trip(self, tmp_path: Path) -> None:
        task = Task(
            "relations", "re", (make_item("é"), make_item("2", group="passage 1")), split="dev"
        )
        loaded = Task.load(task.save(tmp_path / "new" / "task.jsonl"))
        assert loaded == task
        assert loaded.sha256 == task.sha256
        assert [p.name for p in (tmp_path / "new").iterdir()] == ["task.jsonl"]

    def test_hash_sees_every_part_of_an_item(self) -> None:
        base = make_task(1).sha256
        for changes in (
            {"answer": 1},
            {"group": "g"},
            {"fields": {"a": "x"}},
            {"choices": ("city", "capital")},
        ):
            assert Task("relations", "re", (make_item("0", **changes),)).sha256 != base

    def test_names_come_from_the_caller_the_lines_or_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "facts.jsonl"
        path.write_text(json.dumps(make_item().to_record()) + "\n\n")
        with pytest.raises(MetroFastError, match="task_type"):
            Task.load(path)
        task = Task.load(path, task_type="re")
        assert (task.name, task.task_type, task.split) == ("facts", "re", "test")
        assert Task.load(path, task_type="re", name="n", split="dev").split == "dev"

    def test_empty_tasks_and_repeated_ids_are_refused(self) -> None:
        with pytest.raises(MetroFastError, match="no items"):
            Task("t", "re", ())
        with pytest.raises(MetroFastError, match="'1' is given twice"):
            Task("t", "re", (make_item(), make_item()))
        with pytest.raises(MetroFastError, match="name is empty"):
            Task("", "re", (make_item(),))
        with pytest.raises(TypeError, match="not an Item"):
            Task("t", "re", ({"id": "1"},))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("second_line", "message"),
        [
            ("{", "2: not JSON"),
            ("[1]", "2 holds a list; give a JSON object"),
            ('{"id": "2"}', "2 lacks fields, choices, answer"),
            (
                '{"id": "1", "fields": {}, "choices": ["a", "b"], "answer": 0}',
                "is already on line 1",
            ),
            ('{"id": "2", "fields": {}, "choices": ["a", "b"], "answer": 5}', "2: .*answer 5"),
            ('{"id": "2", "fields": {}, "choices": ["a"], "answer": 0}', "2: .*at least 2"),
            ('{"id": "2", "fields": {}, "choices": "ab", "answer": 0}', "2: .*sequence of strings"),
            (
                '{"id": "2", "fields": {}, "choices": ["a", "b"], "answer": 0, "x": 1}',
                "unknown key 'x'",
            ),
            (
                '{"id": "2", "fields": {}, "choices": ["a", "b"], "answer": 0, "task": "other"}',
                "2: task is 'other', but 'relations' on an earlier line",
            ),
        ],
    )
    def test_damaged_lines_are_named(self, tmp_path: Path, second_line: str, message: str) -> None:
        path = tmp_path / "task.jsonl"
        Task("relations", "re", (make_item(),)).save(path)
        path.write_text(path.read_text() + second_line + "\n")
        with pytest.raises(FormatError, match=rf"task\.jsonl:{message}|task\.jsonl:2.*{message}"):
            Task.load(path)

    def test_files_absent_empty_or_binary(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            Task.load(tmp_path / "absent.jsonl")
        empty = tmp_path / "empty.jsonl"
        empty.write_text("\n")
        with pytest.raises(FormatError, match="no items"):
            Task.load(empty)
        empty.write_bytes(b'{"id": "\xff"}\n')
        with pytest.raises(FormatError, match="not JSON"):
            Task.load(empty)

    def test_unwritable_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            make_task().save(tmp_path / "file" / "task.jsonl")


class TestInstruction:
    def test_render(self) -> None:
        item = make_item(fields={"sentence": "It's <b>.", "a": "Paris"})
        assert INSTRUCTIONS[0].render(item).input == "It's <b>. What of Paris?"
        assert INSTRUCTIONS[1].render(item).input == "Paris: capital , city"
        assert INSTRUCTIONS[2].render(item).input == "- capital\n- city\n"

    def test_a_missing_field_names_instruction_field_and_item(self) -> None:
        with pytest.raises(MetroFastError, match=r"'other', item '1': 'question' is undefined"):
            INSTRUCTIONS[3].render(make_item())

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{{ a", "not valid Jinja2"),
            ("{% if %}", "not valid Jinja2"),
            ("{{ a.__class__.__mro__ }}", "unsafe"),
            ("{{ choices.append('x') }}", "unsafe"),
            ("{{ 1 // 0 }}", "ZeroDivisionError"),
            ("{{ range(1000000000) | list }}", "more than 100,000 steps"),
            ("{{ 'a' * 100000000000 }}", "more than 4,000,000 characters"),
            ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "line 1 uses {% macro %}"),
            ("{{ choices | replace }}", "TypeError"),
            ("{{ '' }} ", "blank"),
            ("{% include 'x' %}", "line 1 uses {% include %}"),
        ],
    )
    def test_templates_that_fail(self, text: str, message: str) -> None:
        with pytest.raises(MetroFastError, match=f"instruction 'bad'.*{message}"):
            Instruction("bad", "re", text).render(make_item())

    @pytest.mark.parametrize("label", ["id", "task_type", "text"])
    def test_empty_texts_are_refused(self, label: str) -> None:
        values = {"id": "a", "task_type": "re", "text": "x"} | {label: " "}
        with pytest.raises(MetroFastError, match=f"{label} is empty"):
            Instruction(**values)
        with pytest.raises(TypeError, match=label):
            Instruction(**(values | {label: 3}))  # type: ignore[arg-type]

    def test_seen_belongs_to_the_pair(self) -> None:
        with pytest.raises(TypeError, match="seen_by"):
            Instruction("a", "re", "x", seen_by="t0")  # type: ignore[arg-type]
        assert INSTRUCTIONS[1].is_seen_by("flan")
        assert not INSTRUCTIONS[1].is_seen_by("t0")


class TestInstructionSet:
    @pytest.mark.parametrize("name", ["set.yaml", "set.yml", "set.json"])
    def test_round_trip(self, tmp_path: Path, name: str) -> None:
        loaded = InstructionSet.load(INSTRUCTIONS.save(tmp_path / name))
        assert loaded == INSTRUCTIONS
        assert loaded.sha256 == INSTRUCTIONS.sha256

    def test_choosing(self) -> None:
        relations = INSTRUCTIONS.for_task("re")
        assert [i.id for i in relations] == ["plain", "options", "listed"]
        assert [i.id for i in relations.seen("t0")] == ["plain"]
        assert [i.id for i in relations.unseen("t0")] == ["options", "listed"]
        assert len(INSTRUCTIONS.for_task("nli")) == 0
        assert isinstance(INSTRUCTIONS[1:], InstructionSet)

    @pytest.mark.parametrize(
        ("records", "message"),
        [
            ({"instructions": []}, "holds a dict"),
            (["x"], "instruction 1 is 'x'; give an object"),
            ([{"id": "a", "text": "x"}], "instruction 1 lacks task_type"),
            ([{"id": "a", "task_type": "re", "text": "x", "seen": 1}], "unknown key 'seen'"),
            ([{"id": "a", "task_type": "re", "text": "x", "seen_by": "t0"}], "seen_by is 't0'"),
            ([{"id": "a", "task_type": "re", "text": "x", "seen_by": None}], "seen_by is None"),
            ([{"id": 1, "task_type": "re", "text": "x"}], "id is 1"),
            ([{"id": "a", "task_type": "re", "text": "x"}] * 2, "2: the id 'a' is given twice"),
        ],
    )
    def test_bad_files_are_named(self, tmp_path: Path, records: object, message: str) -> None:
        path = tmp_path / "set.json"
        path.write_text(json.dumps(records))
        with pytest.raises(FormatError, match=rf"set\.json.*{message}"):
            InstructionSet.load(path)

    def test_damaged_and_absent_files(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("a: [")
        (tmp_path / "b.json").write_text("[")
        (tmp_path / "c.yaml").write_text("!!python/object/apply:os.system ['true']")
        for name in ("a.yaml", "b.json", "c.yaml"):
            with pytest.raises(FormatError, match=name.replace(".", r"\.")):
                InstructionSet.load(tmp_path / name)
        with pytest.raises(FileNotFoundError):
            InstructionSet.load(tmp_path / "absent.yaml")
        with pytest.raises(MetroFastError, match="suffix"):
            InstructionSet.load(tmp_path / "set.txt")
        with pytest.raises(MetroFastError, match="suffix"):
            INSTRUCTIONS.save(tmp_path / "set")

    def test_ids_are_unique_and_elements_checked(self) -> None:
        with pytest.raises(MetroFastError, match="'plain' is given twice"):
            InstructionSet([INSTRUCTIONS[0], INSTRUCTIONS[0]])
        with pytest.raises(TypeError, match="not an Instruction"):
            InstructionSet(["x"])  # type: ignore[list-item]


def test_families() -> None:
    assert INSTRUCTIONS.families == ("flan", "t0")
    assert INSTRUCTIONS.unseen("t0").families == ("flan",)
    assert InstructionSet().families == ()
    assert unknown_family_warning(INSTRUCTIONS, "flan") is None
    for name in ("T0", "fla", "", "t0 "):
        warning = unknown_family_warning(INSTRUCTIONS, name)
        assert warning is not None
        assert repr(name) in warning
        assert warning.endswith("the known ones are flan, t0")
    warning = unknown_family_warning(InstructionSet(), "t0")
    assert warning is not None
    assert warning.endswith("they name no family at all")


class TestRenderExamples:
    def test_targets_are_the_right_choices(self) -> None:
        examples = render_examples(make_task(40), INSTRUCTIONS, seed=1).examples
        assert len(examples) == 40
        assert {target for _, target in examples} == {"capital"}
        assert len({text for text, _ in examples}) == 3  # every instruction was drawn

    @given(seed=st.integers(0, 2**63 - 1), count=st.integers(1, 20))
    def test_the_draw_depends_on_seed_and_item_alone(self, seed: int, count: int) -> None:
        task = make_task(count)
        examples = render_examples(task, INSTRUCTIONS, seed=seed).examples
        assert render_examples(task, INSTRUCTIONS, seed=seed).examples == examples
        backwards = Task("t", "re", task.items[::-1])
        assert render_examples(backwards, INSTRUCTIONS, seed=seed).examples[::-1] == examples

    def test_seeds_differ(self) -> None:
        first, second = (render_examples(make_task(40), INSTRUCTIONS, seed=s) for s in (0, 1))
        assert first != second

    def test_several_instructions_per_item_are_different(self) -> None:
        found = render_examples(make_task(4), INSTRUCTIONS, seed=0, instructions_per_item=3)
        examples = found.examples
        assert (found.rejects, found.passed_over, found.summary()) == ((), (), "")
        assert len(examples) == 12
        for start in range(0, 12, 3):
            assert len(set(examples[start : start + 3])) == 3

    def test_bad_arguments(self) -> None:
        with pytest.raises(MetroFastError, match="seed is -1"):
            render_examples(make_task(), INSTRUCTIONS, seed=-1)
        with pytest.raises(MetroFastError, match="0 instructions of type 're', but 1 are"):
            render_examples(make_task(), INSTRUCTIONS.for_task("qa"), seed=0)
        with pytest.raises(MetroFastError, match="3 instructions of type 're', but 4 are"):
            render_examples(make_task(), INSTRUCTIONS, seed=0, instructions_per_item=4)
        with pytest.raises(MetroFastError, match="instructions_per_item is 0"):
            render_examples(make_task(), INSTRUCTIONS, seed=0, instructions_per_item=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda text: Item(text, {"a": "b"}, ("x", "y"), 0),
        lambda text: Item("1", {"a": text}, ("x", "y"), 0),
        lambda text: Item("1", {"a": "b"}, ("x", text), 0),
        lambda text: Instruction("a", "re", text),
    ],
)
def test_half_a_surrogate_pair_is_not_text(make) -> None:
    with pytest.raises(MetroFastError, match="surrogates not allowed"):
        make("\ud800")


def test_importing_prompts_brings_no_heavy_module() -> None:
    code = (
        "import sys, metro_fast.prompts\n"
        "heavy = {'torch', 'transformers', 'jinja2', 'yaml'} & sys.modules.keys()\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
