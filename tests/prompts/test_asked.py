"""Public tasks in the package's wordings, asked of a model: by likelihood and by generation."""

from pathlib import Path

import pytest

from metro_fast.prompts import (
    InstructionSet,
    Task,
    own_instructions,
    read_bbh,
    read_semeval,
    render_items,
)
from metro_fast.robustness import evaluate
from metro_fast.scoring import PROTOCOLS, Engine
from shared_files import shared_files

GENERATIVE = "boolean_expressions", "dyck_languages", "multistep_arithmetic_two", "web_of_lies"


@pytest.mark.parametrize("folder", shared_files("qa/bbh"))
@pytest.mark.parametrize("name", GENERATIVE)
def test_free_answers_of_bbh_are_generated(folder: Path, name: str, tiny_t5, tiny_tokenizer):
    task = read_bbh(folder / f"{name}.json").task
    prompts = render_items(own_instructions("qa")[0], task.items[:3], strict=True).prompts
    outcomes = Engine(tiny_t5, tiny_tokenizer).answer(prompts, PROTOCOLS["generate_match"])
    assert [outcome.prediction for outcome in outcomes] == [-1] * 3
    assert all(isinstance(outcome.text, str) for outcome in outcomes)
    assert all(prompt.target for prompt in prompts)


@pytest.mark.parametrize("path", shared_files("re/semeval2010_task8/TRAIN_FIRST2000.TXT"))
def test_both_readings_of_relations_are_cells_of_the_same_items(
    path: Path, tiny_t5, tiny_tokenizer
) -> None:
    whole = read_semeval(path).task
    task = Task(whole.name, whole.task_type, whole.items[:4], whole.split)
    names, letters = own_instructions("re"), own_instructions("re-qa")
    report = evaluate(
        tiny_t5, tiny_tokenizer, [task], InstructionSet([names[0], letters[0], names[-1]]),
        model_name="tiny", model_family="t5", max_target_length=16, progress=False, strict=True,
    )  # fmt: skip
    by_name, by_letter, control = report.cells
    assert by_name.items == by_letter.items == task.items
    assert by_name.record.identity != by_letter.record.identity
    outcomes = (*by_name.outcomes, *by_letter.outcomes)
    assert [len(outcome.scores) for outcome in outcomes] == [19] * 8
    summary = report.summary(task.name)
    assert len(summary.instructions) == 2
    assert summary.controls[0].instruction_id == control.record.instruction.id == "re/plain/empty/1"
