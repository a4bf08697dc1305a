"""The sets of the package, few-shot prompts, and their use on public tasks."""

import re
from collections import Counter
from pathlib import Path

import pytest

from metro_fast.errors import MetroFastError
from metro_fast.prompts import (
    OWN_SETS,
    FewShot,
    Instruction,
    Item,
    RejectError,
    Task,
    own_instructions,
    read_bbh,
    read_fewrel,
    read_mmlu,
    read_semeval,
    read_table,
    render_items,
)
from shared_files import shared_files

LABELS = ("no", "yes")
ITEMS = {
    "re": Item("1", {"sentence": "SENTENCE", "e1": "ENT1", "e2": "ENT2"}, LABELS, 1),
    "re-qa": Item(
        "1",
        {"sentence": "SENTENCE", "e1": "ENT1", "e2": "ENT2", "statements": ["ONE", "TWO"]},
        LABELS,
        1,
    ),
    "qa": Item("1", {"question": "QUESTION"}, LABELS, 1),
    "nli": Item("1", {"premise": "PREMISE", "hypothesis": "HYPOTHESIS"}, LABELS, 1),
    "sentiment": Item("1", {"text": "TEXT"}, LABELS, 1),
}
MENTIONED = {
    "re": {"SENTENCE", "ENT1", "ENT2", "no", "yes"},
    "re-qa": {"SENTENCE", "A", "ONE", "B", "TWO"},
    "qa": {"QUESTION", "A. no", "B. yes"},
    "nli": {"PREMISE", "HYPOTHESIS", "no", "yes"},
    "sentiment": {"TEXT", "no", "yes"},
}


@pytest.mark.parametrize("name", OWN_SETS)
def test_every_wording_names_all_that_the_item_has(name: str) -> None:
    words = own_instructions(name)
    assert Counter((i.kind, i.style) for i in words) == {
        ("wording", "seen-like"): 10, ("wording", "unseen-like"): 10,
        ("negated", "control"): 2, ("wrong", "control"): 2, ("empty", "control"): 1,
    }  # fmt: skip
    texts = {instruction.text for instruction in words}
    assert len(texts) == len(words)
    for instruction in words:
        prompt = instruction.render(ITEMS[name])
        assert prompt.answer == 1
        assert prompt.choices == (("A", "B") if name in ("re-qa", "qa") else LABELS)
        assert {word for word in MENTIONED[name] if word not in prompt.input} == set()
        assert "  " not in prompt.input.replace("\n    #   ", "").replace("    ", "")
        assert not any(line.endswith(" ") for line in prompt.input.split("\n"))


@pytest.mark.parametrize("name", OWN_SETS)
def test_wordings_end_in_words_that_ask_for_the_answer(name: str) -> None:
    """A causal model continues a list of options where nothing comes after it."""
    open_ended: dict[str, list[str]] = {"seen-like": [], "unseen-like": [], "control": []}
    lasts = set()
    for instruction in own_instructions(name):
        text = instruction.render(ITEMS[name]).input
        ends = [text.rfind(word) + len(word) for word in MENTIONED[name] if word in text]
        last = text[max(ends) :]
        lasts.add(last.split("\n")[-1].strip() or last)
        if not re.search(r"\w", last):
            open_ended[instruction.style].append(instruction.id)
    # As the templates of FLAN do; as many on both sides, so that the gap between them is not that.
    kept = {
        "nli": ("nli/seen/1", "nli/unseen/4"),
        "sentiment": ("sentiment/seen/1", "sentiment/unseen/5"),
    }
    assert [*open_ended["seen-like"], *open_ended["unseen-like"]] == [*kept.get(name, ())]
    assert open_ended["control"] == [own_instructions(name)[-1].id]  # it asks nothing
    assert len(lasts) >= 15


def test_an_unknown_set_is_named() -> None:
    with pytest.raises(MetroFastError, match="no instruction set 'rte'; give one of re, re-qa"):
        own_instructions("rte")


@pytest.mark.parametrize("folder", shared_files("."))
def test_public_tasks_are_worded_without_a_reject(folder: Path) -> None:
    semeval = read_semeval(folder / "re/semeval2010_task8/TEST_FILE_FULL_first1811.TXT").task
    fewrel = read_fewrel(folder / "re/fewrel/val_wiki_part.json").task
    mmlu = read_mmlu(folder / "qa/mmlu/zero_shot_mmlu_val.jsonl").task
    dyck = read_bbh(folder / "qa/bbh/dyck_languages.json").task
    renamed = {"sentence1": "premise", "sentence2": "hypothesis"}
    med = read_table(
        folder / "nli/med_part.tsv", task_type="nli", answer="gold_label", choices="labels",
        rename=renamed,
    ).task  # fmt: skip
    pairs = [("re", semeval), ("re-qa", semeval), ("re", fewrel), ("re-qa", fewrel),
             ("qa", mmlu), ("qa", dyck), ("nli", med)]  # fmt: skip
    for name, task in pairs:
        for instruction in own_instructions(name).for_task(task.task_type):
            rendered = render_items(instruction, task.items[:100], strict=True)
            answers = [item.answer for item in task.items[:100]]
            assert [prompt.answer for prompt in rendered.prompts] == answers
            assert all(prompt.target for prompt in rendered.prompts)


def numbers(count: int) -> Task:
    items = [Item(str(n), {"n": n}, ("odd", "even"), (n + 1) % 2) for n in range(count)]
    return Task("parity", "cls", tuple(items), split="train")


ASK = Instruction("ask", "cls", "{{ n }} is")


def test_examples_are_those_of_the_smallest_hashes_and_come_with_their_answers() -> None:
    shots = FewShot(numbers(30), k=3, seed=5)
    item = Item("new", {"n": 100}, ("odd", "even"), 1)
    prompt = shots.render(ASK, item)
    *examples, last = prompt.input.split("\n\n")
    assert last == "100 is"
    assert (prompt.choices, prompt.answer) == (("odd", "even"), 1)
    assert len(examples) == 3
    for example in examples:
        number, answer = example.split(" is ")
        assert answer == ("even" if int(number) % 2 == 0 else "odd")
    assert FewShot(numbers(30), k=3, seed=5).render(ASK, item) == prompt
    assert FewShot(numbers(30), k=3, seed=6).render(ASK, item) != prompt
    backwards = Task("t", "cls", numbers(30).items[::-1], split="train")
    assert FewShot(backwards, k=3, seed=5).render(ASK, item) == prompt


def test_an_item_is_never_its_own_example() -> None:
    task = numbers(4)
    shots = FewShot(task, k=3, seed=0)
    for item in task:
        *examples, _ = shots.render(ASK, item).input.split("\n\n")
        expected = {str(other.fields["n"]) for other in task if other is not item}
        assert {example.split()[0] for example in examples} == expected


def test_few_shot_refuses_what_it_cannot_do() -> None:
    with pytest.raises(MetroFastError, match="k is 5, but task 'parity', split 'train', has 4"):
        FewShot(numbers(4), k=5, seed=0)
    with pytest.raises(MetroFastError, match="seed is -1"):
        FewShot(numbers(4), k=1, seed=-1)
    shots = FewShot(numbers(4), k=4, seed=0)
    with pytest.raises(MetroFastError, match="can word only 3 examples of task 'parity', but k is"):
        shots.render(ASK, numbers(4).items[0])
    with pytest.raises(RejectError, match="'m' is undefined"):
        shots.render(Instruction("other", "cls", "{{ m }}"), numbers(4).items[0])
