"""A resume, workers and optimizers refuse settings that a run would drop in silence."""

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from metro_cases import LENGTHS, MetroCollator, Rows, SpanCollator, arguments, metro_model
from metro_fast.data import EpochCell
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroTrainer
from rank_cases import span_model
from streaming_cases import PlainStream


def trainer_of(folder: Path, **options: Any) -> MetroTrainer:
    own = {
        name: options.pop(name)
        for name in ("model", "optimizers", "train_dataset", "data_collator")
        if name in options
    }
    return MetroTrainer(
        args=arguments(folder, **{"max_steps": 4, "per_device_train_batch_size": 4, **options}),
        **{
            "model": span_model(),
            "train_dataset": Rows(),
            "data_collator": SpanCollator(),
            **own,
        },
    )


def losses(trainer: MetroTrainer) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps that was stopped after two."""
    folder = tmp_path_factory.mktemp("stopped")
    trainer_of(folder, save_strategy="steps", save_steps=2).train()
    shutil.rmtree(folder / "checkpoint-4")
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.5}, "learning_rate is 0.5, but .* was trained with .*: resume with"),
        ({"weight_decay": 0.5}, "weight_decay is 0.5, but"),
        ({"adam_beta1": 0.5}, r"adam_beta1 and adam_beta2 is \(0.5, "),
        ({"adam_epsilon": 0.5}, "adam_epsilon is 0.5, but"),
        ({"optim": "adafactor"}, "the optimizer of .* resume with the same optim"),
    ],
)
def test_a_resume_with_other_settings_of_the_optimizer_is_refused(
    stopped: Path, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Each ran to its end with the old value; Adafactor stopped with a KeyError of 'beta1'."""
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    with pytest.raises(MetroFastError, match=message):
        trainer_of(folder, **options).train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    "options", [{}, {"logging_steps": 2}, {"max_grad_norm": 9.0}, {"max_steps": 6}]
)
def test_a_resume_with_what_may_change_is_not(
    stopped: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    trainer = trainer_of(folder, **options)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == options.get("max_steps", 4)


def test_an_optimizer_of_other_parameters_is_refused(tmp_path: Path) -> None:
    """The model, or its new layer, stayed as it was."""
    model = span_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    trainer_of(tmp_path, model=model, optimizers=(optimizer, None))
    with pytest.raises(MetroFastError, match=r"\d+ of the \d+ parameters of the optimizer are not"):
        trainer_of(tmp_path, model=deepcopy(model), optimizers=(optimizer, None))
    model.encoder.final_layer_norm = deepcopy(model.encoder.final_layer_norm)
    with pytest.raises(MetroFastError, match=r"after the last change of the model"):
        trainer_of(tmp_path, model=model, optimizers=(optimizer, None))


class SharedEpoch(MetroCollator):
    """The collator with its epoch in memory that workers share."""

    def __init__(self) -> None:
        self.cell = EpochCell()
        super().__init__()

    @property
    def epoch(self) -> int:
        return self.cell.get()

    @epoch.setter
    def epoch(self, value: int) -> None:
        self.cell.set(value)


def metro_run(folder: Path, collator: Any, **options: Any) -> list[float]:
    trainer = trainer_of(
        folder, model=metro_model(), data_collator=collator, **{"max_steps": 6, **options}
    )
    trainer.train()
    return losses(trainer)


def test_persistent_workers_keep_no_old_epoch(tmp_path: Path) -> None:
    """The losses of the second epoch were those of the masks of the first."""
    expected = metro_run(tmp_path / "0", MetroCollator())
    workers = {"dataloader_num_workers": 1}
    assert metro_run(tmp_path / "1", MetroCollator(), **workers) == expected
    persistent = {**workers, "dataloader_persistent_workers": True}
    with pytest.raises(MetroFastError, match=r"MetroCollator has its epoch as a plain.*Cell"):
        metro_run(tmp_path / "2", MetroCollator(), **persistent)
    assert metro_run(tmp_path / "3", SharedEpoch(), **persistent) == expected
    stream = {**persistent, "train_dataset": PlainStream(8, LENGTHS)}
    with pytest.raises(MetroFastError, match="has its epoch as a plain number"):
        metro_run(tmp_path / "4", MetroCollator(), **stream)


def test_no_step_is_not_one_step(tmp_path: Path) -> None:
    with pytest.raises(MetroFastError, match="max_steps=0 would take one step"):
        trainer_of(tmp_path, max_steps=0)
