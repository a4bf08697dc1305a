"""evaluate: the grid, its files, resuming, and stale cells, which are never reused."""

import copy
import dataclasses
import json
import logging
from pathlib import Path

import pytest
import torch

from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts import Instruction, InstructionSet, Item, RejectError, Task
from metro_fast.robustness import Cell, Report, compare, evaluate, load_reports, write_page
from metro_fast.scoring import Engine, find_protocol, score_choices
from naive_scorer import WORDS, causal_model, causal_tokenizer

INSTRUCTIONS = InstructionSet(
    [
        Instruction("ask", "re", "{{ text }} which relation of {{ a }} , {{ b }} ?", ("t5",)),
        Instruction("options", "re", "{{ a }} , {{ b }} : {{ options }} ? {{ text }}"),
        Instruction("read", "re", "read : {{ text }} find {{ a }} , {{ b }}"),
        Instruction("question", "qa", "{{ question }} {{ options }}", ("t5",)),
    ]
)  # fmt: skip
LABELS = ("capital", "city", "border")
PARTS = ("cells", "prompts", "items")


def files_of(folder: Path, pattern: str = "**/*") -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file())


@pytest.fixture
def tasks() -> list[Task]:
    places = ("paris", "rome", "oslo", "france", "italy", "norway")
    relations = [
        Item(
            str(i),
            {"text": f"{places[i % 6]} flows in {places[i % 5]} .", "a": places[i % 6],
             "b": places[i % 5]},
            LABELS,
            i % 3,
        )
        for i in range(20)
    ]  # fmt: skip
    questions = [
        Item(str(i), {"question": f"where is {places[i]} ?"}, (places[i], "the house"), i % 2)
        for i in range(6)
    ]
    return [
        Task("relations", "re", tuple(relations)),
        Task("questions", "qa", tuple(questions)),
    ]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of prompts of each call of Engine.answer."""
    calls: list[int] = []
    answer = Engine.answer

    def count(engine, prompts, protocol):
        calls.append(len(prompts))
        return answer(engine, prompts, protocol)

    monkeypatch.setattr(Engine, "answer", count)
    return calls


def scores_of(cell: Cell) -> list[list[float]]:
    return [list(outcome.scores) for outcome in cell.outcomes]


def inputs_of(cell: Cell) -> list[str]:
    return [prompt.input for prompt in cell.prompts]


def run(model, tokenizer, tasks, output=None, **changes) -> Report:
    keywords = {"model_name": "tiny", "model_family": "t5", "progress": False} | changes
    instructions = keywords.pop("instructions", INSTRUCTIONS)
    return evaluate(model, tokenizer, tasks, instructions, output=output, **keywords)


def test_scores_equal_those_of_score_choices(tiny_t5, tiny_tokenizer, tasks):
    report = run(tiny_t5, tiny_tokenizer, tasks)
    assert report.tasks == ("relations", "questions")
    for task in tasks:
        for cell in report.task_cells(task.name):
            inputs = [cell.record.instruction.render(item).input for item in task]
            choices = [item.choices for item in task]
            expected = score_choices(tiny_t5, tiny_tokenizer, inputs, choices)
            assert scores_of(cell) == expected
            assert inputs_of(cell) == inputs
    assert [cell.record.seen for cell in report.cells] == [True, False, False, True]
    other = run(tiny_t5, tiny_tokenizer, tasks, model_family="flan")
    assert not any(cell.record.seen for cell in other.cells)
    assert other.summary("relations").gap is None


def test_an_interrupted_run_continues_where_it_stopped(
    tiny_t5, tiny_tokenizer, tasks, tmp_path, counted, monkeypatch
):
    answer = Engine.answer

    def stop(*args):
        if len(counted) == 2:
            raise KeyboardInterrupt
        return answer(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "answer", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_t5, tiny_tokenizer, tasks, tmp_path)
    # Two whole cells with their prompts and items; no temporary file and no results.
    assert [len(files_of(tmp_path, f"{part}/**/*")) for part in PARTS] == [2, 2, 1]
    assert len(files_of(tmp_path)) == 5
    report = run(tiny_t5, tiny_tokenizer, tasks, tmp_path)
    assert counted == [20, 20, 20, 6]
    fresh = run(tiny_t5, tiny_tokenizer, tasks)
    assert report.cells == fresh.cells
    assert Report.load(tmp_path).cells == fresh.cells


def test_finished_cells_are_reused(tiny_t5, tiny_tokenizer, tasks, tmp_path, counted):
    first = run(tiny_t5, tiny_tokenizer, tasks, tmp_path)
    assert len(counted) == 4
    again = run(copy.deepcopy(tiny_t5), tiny_tokenizer, tasks, tmp_path)
    assert len(counted) == 4
    assert again.cells == first.cells
    run(tiny_t5, tiny_tokenizer, tasks, tmp_path, resume=False)
    assert len(counted) == 8


def test_whatever_changes_scores_is_scored_again(tiny_t5, tiny_tokenizer, tasks, tmp_path, counted):
    run(tiny_t5, tiny_tokenizer, tasks[:1], tmp_path)
    counted.clear()
    run(tiny_t5, tiny_tokenizer, tasks[:1], tmp_path, preset="t0")
    assert len(counted) == 3
    run(tiny_t5, tiny_tokenizer, tasks[:1], tmp_path, preset="t0", max_input_length=5)
    assert len(counted) == 6
    run(tiny_t5, tiny_tokenizer, tasks[:1], tmp_path)
    assert len(counted) == 6  # another protocol replaced nothing
    fewer = Task("relations", "re", tasks[0].items[:-1])
    run(tiny_t5, tiny_tokenizer, [fewer], tmp_path)
    assert len(counted) == 9
    counted.clear()
    run(tiny_t5, tiny_tokenizer, tasks[:1], tmp_path)
    assert counted == []  # its cells are still there
    changed = [Instruction("ask", "re", "{{ a }} and {{ b }}"), *INSTRUCTIONS[1:]]
    run(tiny_t5, tiny_tokenizer, tasks[:1], tmp_path, instructions=changed)
    assert counted == [20]  # the other two wordings have not changed
    with torch.no_grad():
        tiny_t5.lm_head.weight[5] += 0.1
    report = run(tiny_t5, tiny_tokenizer, tasks[:1], tmp_path)
    assert len(counted) == 4
    hashes = [found.model_hash for found in load_reports(tmp_path)]
    assert report.model_hash in hashes
    assert len(set(hashes)) == 2


def test_seen_labels_may_change_without_a_new_run(
    tiny_t5, tiny_tokenizer, tasks, tmp_path, counted
):
    run(tiny_t5, tiny_tokenizer, tasks[:1], tmp_path)
    counted.clear()
    report = run(tiny_t5, tiny_tokenizer, tasks[:1], tmp_path, model_family="flan")
    assert counted == []
    assert [cell.record.seen for cell in report.cells] == [False] * 3
    assert [cell.record.seen for cell in Report.load(tmp_path).cells] == [False] * 3


def test_several_models_share_a_folder(tiny_t5, tiny_tokenizer, tasks, tmp_path):
    peft = pytest.importorskip("peft")
    base = run(tiny_t5, tiny_tokenizer, tasks, tmp_path, model_name="base")
    config = peft.LoraConfig(r=2, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
    expert = peft.get_peft_model(tiny_t5, config)
    with pytest.warns(UserWarning, match="was the expert or adapter applied"):
        # A fresh LoRA adds nothing.
        compare(base, run(expert, tiny_tokenizer, tasks, tmp_path, model_name="no expert yet"))
    with torch.no_grad():
        for name, parameter in expert.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.2)
    report = run(expert, tiny_tokenizer, tasks, tmp_path, model_name="expert/1")
    comparison = compare(base, report)
    assert not any(task.unchanged for task in comparison.tasks)
    assert len(list(tmp_path.glob("results_*.json"))) == 3
    with pytest.raises(MetroFastError, match="one results_"):
        Report.load(tmp_path)
    assert Report.load(tmp_path / "results_base_metro_t0.json").cells == base.cells


def test_damaged_cells_are_reported(tiny_t5, tiny_tokenizer, tasks, tmp_path):
    run(tiny_t5, tiny_tokenizer, tasks, tmp_path)
    (path,) = tmp_path.glob("cells/tiny/metro_t0/relations-ask-*.jsonl.gz")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(FormatError, match=path.name):
        run(tiny_t5, tiny_tokenizer, tasks, tmp_path)


def test_bad_arguments(tiny_t5, tiny_tokenizer, tasks, tmp_path, counted):
    for changes, message in (
        ({"preset": "x"}, "the protocol is 'x'"),
        ({"model_name": ""}, "model_name is empty"),
        ({"model_family": ""}, "model_family is empty"),
        ({"instructions": []}, "no instruction has its type 're'"),
        ({"instructions": INSTRUCTIONS[:3]}, "'questions': no instruction has its type 'qa'"),
        ({"max_batch_tokens": 0}, "max_batch_tokens is 0"),
    ):
        with pytest.raises(MetroFastError, match=message):
            run(tiny_t5, tiny_tokenizer, tasks, **changes)
    with pytest.raises(MetroFastError, match="tasks is empty"):
        run(tiny_t5, tiny_tokenizer, [])
    with pytest.raises(MetroFastError, match="two tasks have the name 'relations'"):
        run(tiny_t5, tiny_tokenizer, [tasks[0], tasks[0]])
    with pytest.raises(TypeError, match="not a Task"):
        run(tiny_t5, tiny_tokenizer, ["relations"])
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run(tiny_t5, tiny_tokenizer, tasks, tmp_path / "file" / "x")


def test_templates_are_rendered_before_anything_is_scored(tiny_t5, tiny_tokenizer, tasks, counted):
    broken = [*INSTRUCTIONS, Instruction("broken", "qa", "{{ passage }}")]
    with pytest.raises(MetroFastError, match=r"leave out 'broken', .*'passage' is undefined"):
        run(tiny_t5, tiny_tokenizer, tasks, instructions=broken)
    assert counted == []


def test_results_file_is_json(tiny_t5, tiny_tokenizer, tasks, tmp_path):
    run(tiny_t5, tiny_tokenizer, tasks, tmp_path)
    record = json.loads((tmp_path / "results_tiny_metro_t0.json").read_text())
    assert record["groups"]["relations"]["acc,none"] == pytest.approx(
        sum(record["results"][f"relations/{i}"]["acc,none"] for i in ("ask", "options", "read")) / 3
    )


def test_the_page_of_an_evaluation(tiny_t5, tiny_tokenizer, tasks, tmp_path):
    report = run(tiny_t5, tiny_tokenizer, tasks)
    path = write_page(
        tmp_path / "page.html", [report], baselines={"questions": {"first choice": 0.5}}
    )
    html = path.read_text()
    summary = report.summary("relations")
    assert f"{100 * summary.worst.value:.1f} %" in html
    assert report.model_hash in html
    assert "first choice 50.0 %" in html


def test_items_that_cannot_be_worded_are_left_out_and_counted(
    tiny_t5, tiny_tokenizer, tasks, caplog
):
    task = tasks[0]
    twice = Item("twice", task.items[0].fields, (task.items[0].choices[0],) * 2, 0)
    free = Item("free", task.items[0].fields, target="paris")
    longer = Task(task.name, task.task_type, (*task.items, twice, free), task.split)
    with caplog.at_level(logging.WARNING):
        report = run(tiny_t5, tiny_tokenizer, [longer])
    assert [cell.items for cell in report.cells] == [task.items] * len(report.cells)
    plain = run(tiny_t5, tiny_tokenizer, [task])
    assert [cell.outcomes for cell in report.cells] == [cell.outcomes for cell in plain.cells]
    assert report.summary("relations").mean == plain.summary("relations").mean
    counts = {"duplicate choices": 1, "no choices to score": 1}
    assert [cell.rejects_by_reason for cell in report.cells] == [counts] * 3
    assert "relations: 2 items are left out of all averages" in caplog.text
    for name in ("ask", "options", "read"):
        assert f"relations, {name}: 2 of 22 items cannot be worded (duplicate ch" in caplog.text
    with pytest.raises(RejectError, match="item 'twice': a choice is given twice"):
        run(tiny_t5, tiny_tokenizer, [longer], strict=True)
    with pytest.raises(MetroFastError, match=r"all instructions; leave out .*generate_match"):
        run(tiny_t5, tiny_tokenizer, [Task("t", task.task_type, (free,))])


def test_an_instruction_with_choices_of_its_own_is_scored_with_them(
    tiny_t5, tiny_tokenizer, tasks, tmp_path
):
    task = tasks[0]
    count = len(task.items[0].choices)
    words = ["one", "two", "three", "four", "five"][:count]
    numbered = Instruction("numbers", task.task_type, "{{ options }}", choices=words)
    plain = Instruction("numbers", task.task_type, "{{ options }}")
    first = run(tiny_t5, tiny_tokenizer, [task], tmp_path, instructions=[plain])
    report = run(tiny_t5, tiny_tokenizer, [task], tmp_path, instructions=[numbered])
    assert report.cells[0].record.identity != first.cells[0].record.identity
    expected = score_choices(
        tiny_t5, tiny_tokenizer, [" , ".join(words)] * len(task), [words] * len(task)
    )
    assert scores_of(report.cells[0]) == expected
    again = run(tiny_t5, tiny_tokenizer, [task], tmp_path, instructions=[numbered])
    assert again.cells == report.cells


def test_controls_are_scored_and_enter_no_average(tiny_t5, tiny_tokenizer, tasks, tmp_path):
    task = tasks[0]
    wordings = INSTRUCTIONS.for_task("re")
    negated = Instruction("not", "re", "not {{ text }} {{ a }}", kind="negated")
    plain = run(tiny_t5, tiny_tokenizer, [task], instructions=wordings)
    report = run(tiny_t5, tiny_tokenizer, [task], tmp_path, instructions=[negated, *wordings])
    first, second = plain.summary(task.name), report.summary(task.name)
    assert [row.instruction_id for row in second.controls] == ["not"]
    cell = next(c for c in report.cells if c.record.instruction.id == "not")
    assert second.controls[0].value == cell.value
    assert dataclasses.replace(second, controls=(), control_checks=()) == first
    with pytest.warns(UserWarning, match="applied"):  # it is one model
        assert compare(plain, report, margin=0.01).tasks[0].difference.mean == 0
    loaded = Report.load(tmp_path)
    assert loaded.cells == report.cells
    page = write_page(tmp_path / "page.html", [loaded]).read_text()
    assert "<h2>Controls</h2>" in page
    record = json.loads(next(tmp_path.glob("results_*.json")).read_text())
    assert record["results"]["relations/not"]["acc,none"] == cell.value
    assert "relations/not" not in record["group_subtasks"]["relations"]
    with pytest.raises(MetroFastError, match="task 'relations' has controls alone"):
        run(tiny_t5, tiny_tokenizer, [task], instructions=[negated])


@pytest.mark.parametrize("wrapper", ["plain", "vicuna"])
def test_a_causal_model_in_a_wrapper(tasks, tmp_path, wrapper):
    tokenizer = causal_tokenizer(WORDS)
    model = causal_model("rotary", len(tokenizer))
    report = run(model, tokenizer, tasks, tmp_path, preset="lm_eval", wrapper=wrapper)
    name = "lm_eval" if wrapper == "plain" else "lm_eval+vicuna"
    assert report.preset == name
    engine = Engine(model, tokenizer)
    for cell in Report.load(tmp_path).cells:
        prompts = [cell.record.instruction.render(item) for item in cell.items]
        outcomes = engine.answer(prompts, find_protocol("lm_eval", wrapper=wrapper))
        assert cell.predictions == [outcome.prediction for outcome in outcomes]
        assert scores_of(cell) == [pytest.approx(o.scores, abs=1e-4) for o in outcomes]


def test_a_cell_of_another_wrapper_is_not_reused(tiny_t5, tiny_tokenizer, tasks, tmp_path, counted):
    run(tiny_t5, tiny_tokenizer, tasks, tmp_path)
    run(tiny_t5, tiny_tokenizer, tasks, tmp_path, wrapper="alpaca")
    assert len(counted) == 8
    with pytest.raises(MetroFastError, match="no chat template"):
        run(tiny_t5, tiny_tokenizer, tasks, wrapper="chat")
