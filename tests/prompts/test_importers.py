"""Importers: public sets, counted, and rendered as their own code renders them."""

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from metro_fast.errors import FormatError
from metro_fast.prompts import Instruction, InstructionSet, Item, RejectError, by_reason
from metro_fast.prompts.importers import import_flan, import_promptbench, import_promptsource
from shared_files import shared_files

# One row of each data set, with the fields and values that Hugging Face gives it.
ROWS: dict[str, dict[str, Any]] = {
    "ade_corpus_v2/Ade_corpus_v2_drug_ade_relation": {
        "text": "Rash after naproxen.", "drug": "naproxen", "effect": "rash",
        "indexes": {"drug": {"start_char": [11]}},
    },
    "ai2_arc/ARC-Challenge": {
        "question": "Which is a planet?", "answerKey": "B",
        "choices": {"text": ["Moon", "Mars", "Sun", "Io"], "label": ["A", "B", "C", "D"]},
    },
    "anli": {"premise": "Cats sleep.", "hypothesis": "Cats rest.", "label": 0},
    "commonsense_qa": {
        "question": "Where do fish live?", "answerKey": "C", "question_concept": "fish",
        "choices": {"text": ["sky", "tree", "sea", "desk", "car"], "label": [*"ABCDE"]},
    },
    "hellaswag": {
        "ctx": "A man runs. He", "ctx_a": "A man runs.", "ctx_b": "he", "activity_label": "Running",
        "endings": ["stops.", "flies.", "melts.", "sings."], "label": "0", "ind": 3,
        "source_id": "x", "split": "val", "split_type": "indomain",
    },
    "kelm": {"triple": "Oslo capital of Norway", "sentence": "Oslo is Norway's capital."},
    "openbookqa/main": {
        "question_stem": "Ice is", "answerKey": "A",
        "choices": {"text": ["cold", "hot", "red", "loud"], "label": [*"ABCD"]},
    },
    "sciq": {
        "question": "What is H2O?", "support": "Water is H2O.", "correct_answer": "water",
        "distractor1": "salt", "distractor2": "iron", "distractor3": "air",
    },
    "story_cloze/2016": {
        **{f"input_sentence_{i}": f"Sentence {i}." for i in range(1, 5)},
        "sentence_quiz1": "She slept.", "sentence_quiz2": "It rained.", "answer_right_ending": 2,
    },
    "super_glue/boolq": {"passage": "Ice floats.", "question": "does ice float", "label": 1},
    "super_glue/cb": {"premise": "I think it rained.", "hypothesis": "it rained", "label": 2},
    "super_glue/copa": {
        "premise": "It rained.", "choice1": "I got wet.", "choice2": "I got rich.",
        "question": "effect", "label": 0,
    },
    "super_glue/rte": {"premise": "Oslo is big.", "hypothesis": "Oslo is a city.", "label": 1},
    "super_glue/wic": {"sentence1": "A bank.", "sentence2": "Banks.", "word": "bank", "label": 1},
    "super_glue/wsc.fixed": {
        "text": "Ann met Eve when she came", "span1_text": "Ann", "span2_text": "she",
        "span1_index": 0, "span2_index": 4, "label": 1,
    },
    "winogrande/winogrande_xl": {
        "sentence": "The cup fell off the desk because _ was wet.", "option1": "cup",
        "option2": "desk", "answer": "2",
    },
}  # fmt: skip


def upstream(template: dict[str, Any], row: dict[str, Any]) -> tuple[list[str], list[str] | None]:
    """promptsource's Template.apply and get_answer_choices_list, without its cutting of fields."""
    environment = jinja2.Environment()
    environment.globals["zip"] = zip
    environment.filters["choice"] = lambda values: values[0]
    environment.filters["most_frequent"] = lambda values: [max(values, key=values.count)]
    choices = template["answer_choices"]
    if choices is not None:
        text = environment.from_string(choices).render(**row)
        choices = [choice.strip() for choice in text.split("|||")]
    text = environment.from_string(template["jinja"]).render(**row, answer_choices=choices)
    return [part.strip() for part in text.split("|||")], choices


class Loader(yaml.SafeLoader):
    """Any tag is a mapping."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: loader.construct_mapping(node, True))


@pytest.mark.parametrize("folder", shared_files("instructions/promptsource"))
def test_all_139_templates_of_promptsource_are_rendered_as_it_does(folder: Path) -> None:
    words, report = import_promptsource(folder, seen_by=["t0"])
    assert (len(words), report.taken, report.rejects) == (139, 139, ())
    by_id = {instruction.id: instruction for instruction in words}
    rendered, refused = 0, []
    for file in sorted(folder.glob("*.yaml")):
        content = yaml.load(file.read_text(), Loader)
        dataset = content["dataset"] + (f"/{content['subset']}" if content.get("subset") else "")
        item = Item("1", ROWS[dataset], target="(none)")
        for template in content["templates"].values():
            if "| choice" in template["jinja"] or "|choice" in template["jinja"]:
                continue  # drawn; tested by its own property
            instruction = by_id[f"{dataset}/{template['name']}"]
            parts, choices = upstream(template, ROWS[dataset])
            try:
                prompt = instruction.render(item)
            except RejectError as error:
                refused.append(error.reject)
                continue
            rendered += 1
            assert [prompt.input, prompt.target] == parts
            assert list(prompt.choices) == (choices or [])
            assert prompt.answer == (choices.index(parts[1]) if choices else None)
    # Two ask for a cause alone; six draw words, so that upstream differs from run to run.
    assert (rendered, by_reason(refused)) == (131, {"no single target": 2})


@pytest.mark.parametrize("path", shared_files("instructions/flan_v1_patterns.json"))
def test_all_410_patterns_of_flan_are_rendered_as_str_format_does(path: Path) -> None:
    words, report = import_flan(path)
    assert (len(words), report.by_reason) == (410, {})
    # Every value has braces, which neither side may read as a pattern.
    patterns = json.loads(path.read_text())
    names = set(re.findall(r"{(\w+)}", str(patterns))) - {"options_", "options_str"}
    fields = {name: f"<{name} {{ }} {{{{ x }}}}>" for name in names}
    choices = ("it is", "it isn't")
    item = Item("1", fields, choices, 1)
    options = "OPTIONS:\n- it is\n- it isn't"
    expected = [pair for pairs in patterns.values() for pair in pairs]
    for instruction, (text, target) in zip(words, expected, strict=True):
        prompt = instruction.render(item)
        named = fields | {"options_": options, "options_str": options}
        assert prompt.input == text.format(**named)
        if target in ("{answer}", "{answer_str}"):
            assert (prompt.choices, prompt.answer) == (choices, 1)
        else:
            assert (prompt.choices, prompt.target) == ((), target.format(**named))
    assert words[0].id == "flan/aeslc/0"
    assert words[0].is_seen_by("flan-t5")


@pytest.mark.parametrize(
    ("path", "taken", "counts"),
    shared_files(
        ("instructions/promptbench_task_oriented.json", 99,
         {"no place for the item": 1, "not a pattern": 1}),
        ("instructions/promptbench_role_oriented.json", 98, {"no place for the item": 2}),
    ),
)  # fmt: skip
def test_all_201_prompts_of_promptbench_are_taken_or_counted(path, taken, counts) -> None:
    words, report = import_promptbench(path, style=path.stem.split("_")[1])
    assert (len(words), report.by_reason) == (taken, counts)
    fields = {"content": "a {b}", "task": "law", "source_lang": "German", "target_lang": "English"}
    prompts = {
        f"promptbench/{path.stem.split('_')[1]}/{dataset}/{number}": prompt
        for dataset, listed in json.loads(path.read_text()).items()
        for number, prompt in enumerate(listed)
    }
    for instruction in words:
        prompt = instruction.render(Item("1", fields, ("x", "y"), 0))
        expected = prompts[instruction.id].format(soruce_lang="German", **fields)
        assert prompt.input == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not YAML"),
        ("dataset: x\ntemplates: !!python/object/apply:os.system ['true']", "not YAML"),
        ("[1]", "no data set's name"),
        ("dataset: x\n", "no templates"),
        ("dataset: x\ntemplates: {a: 1}\n", "no templates"),
    ],
)
def test_damaged_files_of_promptsource_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "templates.yaml"
    path.write_text(text)
    with pytest.raises(FormatError, match=rf"templates\.yaml.*{message}"):
        import_promptsource(path)
    with pytest.raises(FileNotFoundError):
        import_promptsource(tmp_path / "absent.yaml")


def test_bad_templates_are_counted_and_the_others_taken(tmp_path: Path) -> None:
    texts = {"good": "{{ a }} ||| x", "broken": "{{ a ||| x", "open": "{{ a }}", "empty": "",
             "number": 3}  # fmt: skip
    templates = {
        name: {"jinja": text, "name": "same", "answer_choices": None}
        for name, text in texts.items()
    }
    path = tmp_path / "templates.yaml"
    path.write_text(yaml.safe_dump({"dataset": "toy", "subset": 2016, "templates": templates}))
    words, report = import_promptsource(path)
    assert [i.id for i in words] == ["toy/2016/same"]
    assert report.by_reason == {"not a template": 3, "no target": 1}
    with pytest.raises(FormatError, match=r"1 of 5 taken .*not a template: 3"):
        report.check()


def test_lists_that_are_no_lists_are_named_or_counted(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text('["x"]')
    for read in (import_flan, import_promptbench):
        with pytest.raises(FormatError, match=r"list\.json is not a JSON object of lists"):
            read(path)
    path.write_text(json.dumps({"a": [["x {0}", "y"], ["x {y.z}", "y"], ["x"], ["{", "y"], 3]}))
    words, report = import_flan(path)
    assert (len(words), report.by_reason) == (0, {"not a pattern": 3, "not a pair of texts": 2})
    assert import_promptbench(path).report.by_reason == {"not a text": 5}


def test_imported_sets_survive_a_file(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"a": [["{x} {{y}} {options_}", "{answer}"], ["{x}", "{z}"]]}))
    words = import_flan(path).instructions
    assert InstructionSet.load(words.save(tmp_path / "words.yaml")) == words
    item = Item("1", {"x": "1", "z": "2"}, ("a", "b"), 0)
    assert words[0].render(item).input == "1 {y} OPTIONS:\n- a\n- b"
    assert isinstance(words[1], Instruction)
