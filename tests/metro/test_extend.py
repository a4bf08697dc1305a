"""Runs that are resumed with another length, or with other intervals."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy

from metro_cases import LENGTHS, MetroCollator, Rows, arguments, metro_model
from metro_fast._training.checkpoints import MARK
from metro_fast._training.recorded_settings import changed_settings
from metro_fast._training.run_folder import RESOLVED, RunFolder
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroTrainer
from streaming_cases import PlainStream


class KeepRates(TrainerCallback):
    """Keeps the rate that each step is taken with, by the step's number."""

    def __init__(self) -> None:
        self.rates: dict[int, float] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        self.rates[state.global_step] = kw["optimizer"].param_groups[0]["lr"]


def run(
    folder: Path,
    *callbacks: TrainerCallback,
    resume: bool = False,
    rows: Any = None,
    **options: Any,
) -> MetroTrainer:
    """Dropout .1 and two accumulation steps over 16 rows: four steps make an epoch."""
    rows = Rows(LENGTHS * 2) if rows is None else rows
    trainer = MetroTrainer(
        metro_model(main={"dropout_rate": 0.1}),
        arguments(
            folder,
            **{
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": 2,
                "save_strategy": "steps",
                "save_steps": 100,
                "train_sampling_strategy": "random",
                **options,
            },
        ),
        train_dataset=rows,
        eval_dataset=Rows(LENGTHS[:2], seed=1),
        data_collator=MetroCollator(),
        callbacks=list(callbacks),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def losses(trainer: MetroTrainer) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in trainer.state.log_history if "loss" in line}


@pytest.mark.parametrize(
    ("first", "rows"),
    [(6, None), (8, None), (3, PlainStream())],
    ids=["within an epoch", "at the end of an epoch", "stream"],
)
def test_an_extended_run_is_the_run_that_was_planned_so(
    tmp_path: Path, first: int, rows: Any
) -> None:
    schedule = {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 3, "rows": rows}
    planned = run(tmp_path / "planned", max_steps=10, **schedule)
    run(tmp_path / "extended", max_steps=first, **schedule)
    extended = run(tmp_path / "extended", max_steps=10, resume=True, **schedule)
    assert losses(extended) == losses(planned)
    weights = [trainer.model.state_dict() for trainer in (planned, extended)]
    assert all(torch.equal(weights[1][name], weight) for name, weight in weights[0].items())
    assert extended.state.global_step == 10


def linear(step: int, steps: int) -> float:
    return step / 2 if step < 2 else (steps - step) / (steps - 2)


def cosine(step: int, steps: int) -> float:
    return step / 2 if step < 2 else 0.5 + 0.5 * math.cos(math.pi * (step - 2) / (steps - 2))


@pytest.mark.parametrize("formula", [linear, cosine])
def test_the_schedule_of_an_extended_run_is_that_of_its_new_length(
    tmp_path: Path, formula: Any
) -> None:
    rates = KeepRates()
    options = {"lr_scheduler_type": formula.__name__, "warmup_steps": 2}
    run(tmp_path, rates, max_steps=4, **options)
    trainer = run(tmp_path, rates, max_steps=10, resume=True, **options)
    expected = [1e-3 * formula(step, 4 if step < 4 else 10) for step in range(10)]
    np.testing.assert_allclose(
        [rates.rates[step] for step in range(10)], expected, rtol=1e-12, atol=1e-18
    )
    logged = [line["learning_rate"] for line in trainer.state.log_history if "loss" in line]
    np.testing.assert_allclose(logged, expected, rtol=1e-12, atol=1e-18)


def test_a_resumed_run_has_the_intervals_that_it_is_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = {"logging_steps": 2, "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}
    run(tmp_path, max_steps=4, **before)
    now = {"logging_steps": 3, "save_steps": 5, "eval_strategy": "steps", "eval_steps": 4}
    resumed = run(tmp_path, max_steps=12, resume=True, **now)
    assert "in force: logging_steps 3, save_steps 5, eval_steps 4" in caplog.text
    caplog.clear()
    evaluated = [line["step"] for line in resumed.state.log_history if "eval_loss" in line]
    assert list(losses(resumed)) == [2, 4, 6, 9, 12]
    assert evaluated == [2, 4, 8, 12]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"checkpoint-{step}" for step in (2, 4, 5, 10, 12)
    }
    run(tmp_path, max_steps=13, resume=True, **now)
    assert "in force" not in caplog.text


def test_a_run_is_extended_by_epochs(tmp_path: Path) -> None:
    rates = KeepRates()
    options = {"max_steps": -1, "lr_scheduler_type": "linear"}
    run(tmp_path, rates, num_train_epochs=1, **options)
    assert list(rates.rates) == [0, 1, 2, 3]
    trainer = run(tmp_path, rates, num_train_epochs=1.5, resume=True, **options)
    assert list(rates.rates) == [0, 1, 2, 3, 4, 5]
    assert trainer.state.global_step == 6
    assert rates.rates[4] == pytest.approx(1e-3 * 2 / 6)
    same = run(tmp_path, rates, num_train_epochs=1.5, resume=True, **options)
    assert (same.state.global_step, len(rates.rates)) == (6, 6)
    with pytest.raises(MetroFastError, match="max_steps is 4, but the run has reached step 6"):
        run(tmp_path, num_train_epochs=1, resume=True, **options)


def test_a_run_is_not_made_shorter_than_it_is(tmp_path: Path) -> None:
    run(tmp_path, max_steps=4)
    with pytest.raises(
        MetroFastError, match="max_steps is 3, but the run has reached step 4: give 4 or more"
    ):
        run(tmp_path, max_steps=3, resume=True)
    rates = KeepRates()
    trainer = run(tmp_path, rates, max_steps=4, resume=True)
    assert (trainer.state.global_step, rates.rates) == (4, {})


def test_evaluation_does_not_change_the_training(tmp_path: Path) -> None:
    """So its interval may be changed: a loader's seed is not drawn from the dropout's generator."""
    often = run(tmp_path / "often", max_steps=4, eval_strategy="steps", eval_steps=1)
    never = run(tmp_path / "never", max_steps=4)
    assert losses(often) == losses(never)


@dataclass(frozen=True)
class Training:
    max_steps: int = 4
    save_steps: float = 2
    optim: IntervalStrategy | str = "steps"
    seed: int = 0


@dataclass(frozen=True)
class Sections:
    output: Path
    training: Training = field(default_factory=Training)
    auxiliary: dict[str, Any] = field(default_factory=lambda: {"num_layers": 4, "rates": (1, 2)})


def recorded(
    folder: Path, *changes: Training, steps: tuple[str, int] | None = None, **sections: Any
) -> dict[str, Any]:
    """The settings that a resumed run with a checkpoint of step 4 records."""
    checkpoint = folder / "checkpoints" / "checkpoint-4"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / MARK).write_text('{"windows": [{}], "files": {}}')
    training = changes[0] if changes else Training()
    settings = Sections(folder, training, **sections)
    free = {"output", "training.max_steps", "training.save_steps", "data"}
    RunFolder(folder, resume=True).record(settings, free=free, steps=steps)
    found: dict[str, Any] = yaml.safe_load((folder / RESOLVED).read_text())
    return found


def test_sections_are_compared_by_dotted_names(tmp_path: Path) -> None:
    before = recorded(tmp_path)
    assert before["training"] == {"max_steps": 4, "save_steps": 2, "optim": "steps", "seed": 0}
    assert before["auxiliary"] == {"num_layers": 4, "rates": [1, 2]}
    assert before["output"] == str(tmp_path.absolute())
    longer = recorded(tmp_path, Training(max_steps=8, save_steps=1, optim=IntervalStrategy.STEPS))
    assert longer["training"] == {"max_steps": 8, "save_steps": 1, "optim": "steps", "seed": 0}
    for change, message in (
        (
            {"auxiliary": {"num_layers": 3, "rates": (1, 2)}},
            "auxiliary.num_layers: 4 before, 3 now",
        ),
        ({"auxiliary": {"num_layers": 4}}, r"auxiliary.rates: \[1, 2\] before, None now"),
    ):
        with pytest.raises(MetroFastError, match=message):
            recorded(tmp_path, **change)
    with pytest.raises(MetroFastError, match=r"\(training.seed: 0 before, 1 now\)"):
        recorded(tmp_path, Training(seed=1, max_steps=6))
    with pytest.raises(MetroFastError, match=r"training\.max_steps is 3, but the run has reached"):
        recorded(tmp_path, Training(max_steps=3), steps=("training.max_steps", 3))
    with pytest.raises(TypeError, match="rates is a Tensor, expected a number"):
        recorded(tmp_path, auxiliary={"num_layers": 4, "rates": [torch.ones(1)]})
    assert yaml.safe_load((tmp_path / RESOLVED).read_text()) == longer


def test_a_free_section_is_free_as_a_whole() -> None:
    before = {"data": {"rows": 3, "order": {"seed": 1}}, "database": 1, "model": {"depth": 2}}
    now = {"data": {"rows": 4, "order": {"seed": 2}}, "database": 2, "model": {"depth": 2}}
    assert changed_settings(before, now, {"data"}) == ["database: 1 before, 2 now"]
    assert changed_settings(before, now, {"data.order"}) == [
        "data.rows: 3 before, 4 now",
        "database: 1 before, 2 now",
    ]
    assert changed_settings({}, {"data": {}, "name": None}) == []
