"""Readers: whole public files, counted, and what damaged ones give."""

import csv
import itertools
import json
import sys
import types
from pathlib import Path

import pytest

from metro_fast.errors import FormatError, MetroFastError, MissingExtraError
from metro_fast.prompts import Instruction, Item, Task, by_reason, render_items
from metro_fast.prompts.importers import import_promptsource
from metro_fast.prompts.readers import (
    read_bbh,
    read_fewrel,
    read_lm_eval,
    read_mmlu,
    read_rows,
    read_semeval,
    read_story_cloze,
    read_table,
    with_statements,
)
from shared_files import shared_files

SEMEVAL = "re/semeval2010_task8"


@pytest.mark.parametrize("folder", shared_files("qa/bbh"))
def test_all_18_shared_tasks_of_bbh(folder: Path) -> None:
    generative, items = set(), 0
    for file in sorted(folder.glob("*.json")):
        examples = json.loads(file.read_text())["examples"]
        task, report = read_bbh(file)
        # One published question of snarks has a single option.
        rejects = {"fewer than two choices": 1} if file.stem == "snarks" else {}
        assert report.by_reason == rejects
        assert len(task) == len(examples) - len(rejects)
        items += len(task)
        for item in task:
            example = examples[int(item.id)]
            assert item.fields["input"] == example["input"].rstrip()
            if not item.choices:
                generative.add(task.name)
                assert item.target == example["target"]
                continue
            assert item.answer is not None
            # The published text holds the right option as its own line.
            label, text = item.fields["labels"][item.answer], item.answer_text
            assert label == example["target"]
            line = f"{label} {text}" if label.startswith("(") else f"- {label}"
            assert line in map(str.rstrip, example["input"].splitlines())
        remarks = {"duplicate choices": 1} if file.stem == "snarks" else {}
        assert report.remarks_by_reason == remarks
    names = ["boolean_expressions", "dyck_languages", "multistep_arithmetic_two", "web_of_lies"]
    assert generative == {f"bbh_{name}" for name in names}
    assert items == 4260


def test_a_target_outside_of_the_options_is_counted(tmp_path: Path) -> None:
    options = "Which?\nOptions:\n(A) x\n(B) y"
    examples = [{"input": options, "target": t} for t in ("(B)", "(C)", "")]
    examples.append({"input": "Which?\nOptions:\nx", "target": "x"})
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"canary": "x", "examples": examples}))
    task, report = read_bbh(path)
    assert report.by_reason == {"no input or target": 1, "options not understood": 1}
    assert report.remarks_by_reason == {"no answer among the choices": 1}
    ask = Instruction("ask", "qa", "{{ question }}")
    assert by_reason(render_items(ask, task).rejects) == {"no answer among the choices": 1}
    free = Instruction("free", "qa", "{{ question }}", choices=[])
    assert [p.target for p in render_items(free, task).prompts] == ["y", "(C)"]
    for text in ("[]", '{"examples": 3}', '{"examples": []}', '{"examples": [3]}'):
        path.write_text(text)
        with pytest.raises(FormatError, match=r"t\.json"):
            read_bbh(path)


@pytest.mark.parametrize(
    ("path", "folder"),
    shared_files(("qa/mmlu/zero_shot_mmlu_val.jsonl",), each_with=["instructions/promptsource"]),
)
def test_all_1531_items_of_mmlu(path: Path, folder: str) -> None:
    task, report = read_mmlu(path, split="validation")
    assert (len(task), report.by_reason) == (1531, {})
    assert report.remarks_by_reason == {"duplicate choices": 3}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({item.group for item in task}) == 57
    for item, line in zip(task, lines, strict=True):
        assert (item.group, "ABCD"[item.answer or 0]) == (line["subject"], line["output"])
        listed = f"{item.fields['question']}\n" + "\n".join(
            f"{letter}. {text}" for letter, text in zip("ABCD", item.choices, strict=True)
        )
        assert line["input"].endswith(f".\n\n{listed}\nAnswer:")
    # The two readings: by texts three items are rejected, by METRO's letters none.
    by_text = Instruction("texts", "qa", "{{ question }}\n{{ lettered }}")
    assert by_reason(render_items(by_text, task).rejects) == {"duplicate choices": 3}
    words = import_promptsource(path.parents[2] / folder / "ai2_arc__ARC-Challenge.yaml")[0]
    problem = next(i for i in words if i.id.endswith("heres_a_problem"))
    prompts = render_items(problem, task)
    assert (len(prompts.prompts), prompts.rejects) == (1531, ())
    assert prompts.prompts[0].choices == ("A", "B", "C", "D")
    assert [p.target for p in prompts.prompts] == [line["output"] for line in lines]


def test_mmlu_from_csv_files(tmp_path: Path) -> None:
    with (tmp_path / "law_test.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [['Who "rules",\nhere?', "w", "x", "y", "z", "D"], ["?", "w", "x", "y", "z", "E"],
             ["?", "w", "x", "y", "A"], ["Why?", "w", "x", "y", "z", "A"]]
        )  # fmt: skip
    (tmp_path / "sea_val.csv").write_text("How?,a,a,b,c,C\n")
    task, report = read_mmlu(tmp_path)
    assert [item.id for item in task] == ["law/0", "law/3", "sea/0"]
    assert task.items[0].fields["question"] == 'Who "rules",\nhere?'
    counts = {"no answer among the choices": 1, "no question with four choices": 1}
    assert report.by_reason == counts
    assert report.remarks_by_reason == {"duplicate choices": 1}
    (tmp_path / "bad.csv").write_bytes(b"\xff,a,b,c,d,A\n")
    with pytest.raises(FormatError, match=r"bad\.csv is not a CSV file"):
        read_mmlu(tmp_path)
    (tmp_path / "lines.jsonl").write_text("[]\n")
    with pytest.raises(FormatError, match=r"lines\.jsonl:1 holds a list"):
        read_mmlu(tmp_path / "lines.jsonl")


@pytest.mark.parametrize(
    ("path", "count"),
    shared_files(
        (f"{SEMEVAL}/TRAIN_FIRST2000.TXT", 2000), (f"{SEMEVAL}/TEST_FILE_FULL_first1811.TXT", 1811)
    ),
)
def test_semeval_in_both_readings_of_the_same_items(path: Path, count: int) -> None:
    task, report = read_semeval(path)
    assert (len(task), report.by_reason) == (count, {})
    lines = path.read_text().splitlines()
    keys = [line for before, line in itertools.pairwise(lines) if before[:1].isdigit()]
    assert [item.answer_text for item in task] == keys
    labels = Instruction("labels", "re", "{{ sentence }}")
    letters = Instruction(
        "letters", "re",
        "{{ sentence }}{% for s in statements %}\n{{ letters[loop.index0] }}. {{ s }}{% endfor %}",
        choices="{{ letters | join('|||') }}",
    )  # fmt: skip
    one, two = render_items(labels, task), render_items(letters, task)
    assert one.rejects == two.rejects == ()
    assert [i.id for i in one.items] == [i.id for i in two.items]
    assert [p.answer for p in one.prompts] == [p.answer for p in two.prompts]
    assert {len(p.choices) for p in (*one.prompts, *two.prompts)} == {19}
    item = task.items[0]
    first, second = item.fields["e1"], item.fields["e2"]
    statements = item.fields["statements"]
    assert statements[:2] == [
        f"{first} is the cause of {second}.", f"{second} is the cause of {first}.",
    ]  # fmt: skip
    assert len(set(statements)) == 19
    assert f"<e1>{first}</e1>" in item.fields["tagged"]
    assert "<e" not in item.fields["sentence"]


def test_blocks_of_semeval_that_are_no_items_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text(
        '1\t"<e1>a</e1> <e2>b</e2>"\nOther\nComment: x\n\n\n2\t"<e1>a</e1> b"\nOther\n\n'
        '3\t"<e1>a</e1> <e2>b</e2>"\nMade-Up(e1,e2)\n\nno number\nOther\n\n'
        '1\t"<e1>a</e1> <e2>b</e2>"\nOther\n\n4\t"<e1>a</e1> <e2>b</e2>"\n'
    )
    task, report = read_semeval(path)
    assert len(task) == 1
    assert report.by_reason == {
        "no relation": 2, "no entity": 1, "no numbered sentence": 1, "id given twice": 1,
    }  # fmt: skip
    path.write_bytes(b"1\t\xff")
    with pytest.raises(FormatError, match="not UTF-8"):
        read_semeval(path)


def test_types_narrow_the_relations_and_no_relation_is_last() -> None:
    labels = ("no_relation", "born_in", "works_for", "founded")
    rows = [("PER", "CITY", 1), ("PER", "ORG", 2), ("PER", "ORG", 1), ("ORG", "DATE", 0),
            ("PER", "CITY", 0)]  # fmt: skip
    items = [
        Item(str(n), {"e1": "Ann", "e2": "it", "e1_type": a, "e2_type": b}, labels, answer)
        for n, (a, b, answer) in enumerate(rows)
    ]
    items.append(Item("no type", {"e1": "Ann", "e2": "it"}, labels, 0))
    templates = {label: f"{{{{ e1 }}}} {label} {{{{ e2 }}}}" for label in labels}
    valid = {"PER:CITY": ["born_in"], "PER:ORG": ["founded", "works_for"]}
    task, report = with_statements(
        Task("t", "re", tuple(items)), templates, valid=valid, none="no_relation"
    )
    assert {item.id: (item.choices, item.answer_text) for item in task} == {
        "0": (("born_in", "no_relation"), "born_in"),
        "1": (("works_for", "founded", "no_relation"), "works_for"),
        "4": (("born_in", "no_relation"), "no_relation"),
    }
    assert task.items[1].fields["statements"] == [
        "Ann works_for it", "Ann founded it", "Ann no_relation it",
    ]  # fmt: skip
    assert report.by_reason == {
        "relation not valid for its types": 1, "fewer than two choices": 1, "no entity type": 1,
    }  # fmt: skip
    with pytest.raises(MetroFastError, match="relation 'works_for' has no template"):
        with_statements(task, {"born_in": "x", "no_relation": "y", "founded": "z"})


@pytest.mark.parametrize("path", shared_files("re/fewrel/val_wiki_part.json"))
def test_fewrel(path: Path) -> None:
    content = json.loads(path.read_text())
    names = json.loads((path.parent / "pid2name.json").read_text())
    task, report = read_fewrel(path, path.parent / "pid2name.json")
    assert (len(task), report.by_reason) == (1200, {})
    assert task.items[0].choices == tuple(names[pid][0] for pid in content)
    for item in task:
        pid, number = item.id.split("/")
        sentence = content[pid][int(number)]
        assert item.answer_text == names[pid][0]
        # FewRel gives the names beside the positions, in lower case and not split into tokens.
        for field, end in (("e1", "h"), ("e2", "t")):
            name = sentence[end][0].replace(" ", "")
            assert item.fields[field].lower().replace(" ", "") == name
        assert item.fields["tagged"].replace("<e1>", "").replace("</e1>", "").replace(
            "<e2>", ""
        ).replace("</e2>", "") == " ".join(sentence["tokens"])
    assert len(set(task.items[0].fields["statements"])) == 10


def test_damaged_fewrel(tmp_path: Path) -> None:
    good = {"tokens": ["a", "b"], "h": ["a", "Q", [[0]]], "t": ["b", "Q", [[1]]]}
    path = tmp_path / "few.json"
    path.write_text(json.dumps({"P1": [good, {"tokens": []}], "P{2}": [good | {"t": 3}, good]}))
    task, report = read_fewrel(path)
    assert [item.id for item in task] == ["P1/0", "P{2}/1"]
    assert report.by_reason == {"not a sentence of FewRel": 2}
    assert "P{2}" in task.items[0].fields["statements"][1]
    path.write_text("[]")
    with pytest.raises(FormatError, match="not a JSON object of lists"):
        read_fewrel(path)


STORY_HEADER = (
    "InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4,"
    "RandomFifthSentenceQuiz1,RandomFifthSentenceQuiz2,AnswerRightEnding\n"
)


@pytest.mark.parametrize("file", shared_files("instructions/promptsource/story_cloze__2016.yaml"))
def test_story_cloze_is_worded_by_its_templates(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "stories.csv"
    path.write_text(
        STORY_HEADER
        + 'a,"Ann woke, late.",She ran.,It rained.,She slipped.,She sang.,She fell.,2\n'
        "b,One.,Two.,Three.,Four.,Five.,Six.,1\nc,One.,Two.,Three.,Four.,Five.,Six.,3\n"
        "d,One.,Two.,Three.,Four.,Five.,Six.,x\ne,One.\nf,One.,,Three.,Four.,Five.,Six.,1\n"
    )
    task, report = read_story_cloze(path)
    assert [(item.id, item.answer_text) for item in task] == [("a", "She fell."), ("b", "Five.")]
    assert report.by_reason == {
        "missing column": 2, "no answer among the choices": 1, "no number": 1,
    }  # fmt: skip
    for instruction in import_promptsource(file).instructions:
        assert instruction.task_type == task.task_type
        assert [p.answer for p in render_items(instruction, task, strict=True).prompts] == [1, 0]


@pytest.mark.parametrize("path", shared_files("nli/med_part.tsv"))
def test_a_table_with_labels(path: Path) -> None:
    task, report = read_table(
        path, task_type="nli", answer="gold_label", choices="labels", id_column="index",
        group_column="genre",
    )  # fmt: skip
    assert (len(task), report.by_reason) == (3588, {})
    labels = [line.split("\t")[-1] for line in path.read_text().splitlines()[1:]]
    assert [item.answer_text for item in task] == labels
    assert task.items[0].choices == tuple(sorted(set(labels)))


def test_a_table_with_a_column_for_each_choice(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('q,one,two,right\n"a,\n""b""",x,y,2\nc,x,y,3\nd,x,y\ne,x,y,y\n')
    task, report = read_table(
        path, task_type="qa", answer="right", choice_columns=["one", "two"], first_answer=1
    )
    assert [(i.id, i.fields["q"], i.answer_text) for i in task] == [
        ("0", 'a,\n"b"', "y"), ("3", "e", "y"),
    ]  # fmt: skip
    assert report.by_reason == {"no answer among the choices": 1, "missing column": 1}
    path.write_text('q,right\n"open,2\n')
    with pytest.raises(FormatError, match="not a CSV file"):
        read_table(path, task_type="qa", answer="right")
    path.write_text("")
    with pytest.raises(FormatError, match="holds no items"):
        read_table(path, task_type="qa", answer="right")


def test_rows_of_hugging_face_keep_their_fields_and_labels() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "n": datasets.Value("int32"),
         "label": datasets.ClassLabel(names=["negative", "positive"])}
    )  # fmt: skip
    rows = datasets.Dataset.from_dict(
        {"text": ["fine", "dull", "?"], "n": [1, 2, 3], "label": [1, 0, -1]}, features=features
    )
    task, report = read_rows(rows, name="films", task_type="cls", answer="label")
    assert [item.answer_text for item in task] == ["positive", "negative"]
    assert report.by_reason == {"no answer among the choices": 1}
    assert task.items[1].fields == {"text": "dull", "n": 2, "label": 0}
    arc = datasets.Dataset.from_list(
        [{"q": "?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "key": "2"}]
    )
    task, _ = read_rows(arc, name="arc", task_type="qa", answer="key", choices="choices")
    assert task.items[0].answer_text == "y"
    free, _ = read_rows([{"q": 1, "a": 4.5}], name="sums", task_type="qa", answer="a")
    assert (free.items[0].target, free.items[0].choices) == ("4.5", ())
    with pytest.raises(MetroFastError, match="both given"):
        read_rows([], name="x", task_type="x", answer="a", choices=["a"], choice_columns=["b"])


def test_lm_eval_is_named_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'metro_fast\[lm-eval\]'"):
        read_lm_eval("rte")


class FakeTask:
    """Has the methods of lm-eval's ConfigurableTask that the reader calls."""

    OUTPUT_TYPE = "multiple_choice"
    config = types.SimpleNamespace(task="toy", test_split="test", validation_split="validation")
    eval_docs = (
        {"q": "x", "choices": ["a", "b"], "gold": 1, "when": object()},
        {"q": "y", "choices": ["a", "b"], "gold": "a"},
        {"q": 0, "choices": ["a", "b"], "gold": 1},
        {"q": "z", "choices": ["a", "b"], "gold": [0, 1]},
        {"q": "z", "choices": ["a", "b"], "gold": "c"},
    )

    def has_test_docs(self) -> bool:
        return False

    def doc_to_text(self, doc):
        return doc["q"]

    def doc_to_choice(self, doc):
        return doc["choices"]

    def doc_to_target(self, doc):
        return doc["gold"]


def test_documents_of_lm_eval_become_items_or_are_counted() -> None:
    task, report = read_lm_eval(FakeTask(), task_type="qa")
    assert [item.answer_text for item in task] == ["b", "a", "c"]
    assert (task.name, task.split) == ("toy", "validation")
    assert task.items[0].fields == {"q": "x", "choices": ["a", "b"], "gold": 1, "input": "x"}
    assert report.by_reason == {"several inputs": 1, "several answers": 1}
    assert report.remarks_by_reason == {"no answer among the choices": 1}


def test_lm_eval_reads_its_own_files(tmp_path: Path) -> None:
    tasks = pytest.importorskip("lm_eval.tasks", reason="lm-eval is not installed")
    rows = [{"q": f"Is {n} even?", "gold": n % 2} for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "utils.py").write_text("def choices(doc):\n    return ['yes', 'no']\n")
    (tmp_path / "even.yaml").write_text(
        "task: toy_even\ndataset_path: json\n"
        f"dataset_kwargs:\n  data_files:\n    test: {tmp_path / 'rows.jsonl'}\n"
        "output_type: multiple_choice\ntest_split: test\ndoc_to_text: '{{q}} Say:'\n"
        "doc_to_choice: !function utils.choices\ndoc_to_target: gold\n"
        "metric_list:\n  - metric: acc\n"
    )
    manager = tasks.TaskManager(include_path=str(tmp_path), include_defaults=False)
    task, report = read_lm_eval("toy_even", manager=manager)
    assert (len(task), report.by_reason) == (4, {})
    assert [item.answer_text for item in task] == ["yes", "no", "yes", "no"]
    assert task.items[0].fields["input"] == "Is 0 even? Say:"
    with pytest.raises(MetroFastError, match="no single task 'toy_odd'"):
        read_lm_eval("toy_odd", manager=manager)


def test_reports_say_what_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("q,a\nx,yes\ny,maybe\nz\n")
    report = read_table(path, task_type="cls", answer="a", choices=["yes", "no", "no"]).report
    assert str(report) == (
        f"{path}: 1 of 3 taken (no answer among the choices: 1, missing column: 1) "
        "(taken with remark: duplicate choices: 1)"
    )
