"""A loss or gradient that is not finite stops at its step and leaves its batch behind."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from metro_cases import LENGTHS, MetroCollator, Rows, arguments, metro_model
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroTrainer
from warm_processes import run_ranks


def poisoned_trainer(folder: Path, sample_id: int, **options: Any) -> MetroTrainer:
    """The main encoder's output is NaN for a batch that holds the sample id, and for no other."""
    model = metro_model()
    poisoned = [False]

    def look(_module: Any, _args: Any, inputs: dict[str, torch.Tensor]) -> None:
        poisoned[0] = sample_id in inputs["sample_ids"].tolist()

    def poison(_module: Any, _args: Any, hidden: torch.Tensor) -> torch.Tensor:
        return hidden * float("nan") if poisoned[0] else hidden

    model.register_forward_pre_hook(look, with_kwargs=True)
    model.main.encoder.final_layer_norm.register_forward_hook(poison)
    return MetroTrainer(
        model,
        arguments(
            folder,
            **{
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": 2,
                "max_steps": 4,
                "logging_steps": 50,
                **options,
            },
        ),
        train_dataset=Rows(LENGTHS * 2),
        data_collator=MetroCollator(),
    )


def test_it_stops_at_the_step_and_names_the_micro_step_and_the_rows(tmp_path: Path) -> None:
    """Rows in order, four a step: row 11 is in the second micro-step of step 3."""
    trainer = poisoned_trainer(tmp_path, 11, save_strategy="steps", save_steps=1)
    before = {}

    class Keep(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            before.update({n: w.clone() for n, w in kw["model"].state_dict().items()})

    trainer.add_callback(Keep())
    path = tmp_path / "nonfinite-batch-step-3.pt"
    message = (
        r"the loss is nan at step 3 \(lm, rtd; micro-step 2 of 2; sample ids 10, 11; its batch is "
        rf"in {re.escape(str(path))}\)"
    )
    with pytest.raises(MetroFastError, match=message):
        trainer.train()
    saved = torch.load(path, weights_only=True)
    expected = MetroCollator()([Rows(LENGTHS * 2)[i] for i in (10, 11)])
    assert (saved["step"], saved["micro_steps"]) == (3, [2])
    assert saved["batches"][0].keys() == expected.keys()
    assert all(torch.equal(saved["batches"][0][name], value) for name, value in expected.items())
    after = trainer.model.state_dict()
    assert all(torch.equal(w, after[n]) for n, w in before.items())
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*"))[-1] == "checkpoint-2"


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    trainer = poisoned_trainer(tmp_path, -1)
    weight = trainer.model.main.lm_head.weight
    weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(MetroFastError, match=r"gradient is (inf|nan) at step 1, though"):
        trainer.train()
    saved = torch.load(tmp_path / "nonfinite-batch-step-1.pt", weights_only=True)
    assert [batch["sample_ids"].tolist() for batch in saved["batches"]] == [[0, 1], [2, 3]]


def test_a_batch_that_the_model_refuses_is_named_and_kept(tmp_path: Path) -> None:
    """The draws refuse logits that are NaN before there is a loss."""
    trainer = poisoned_trainer(tmp_path, -1)

    class Break(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            if state.global_step == 2:
                kw["model"].mlm_head.projection.bias.data.fill_(float("nan"))

    trainer.add_callback(Break())
    message = r"logits has NaN .* \(step 3, micro-step 1 of 2; sample ids 8, 9; the batch is in"
    with pytest.raises(MetroFastError, match=message):
        trainer.train()
    saved = torch.load(tmp_path / "refused-batch-step-3.pt", weights_only=True)
    assert saved["batches"][0]["sample_ids"].tolist() == [8, 9]
    with pytest.raises(MetroFastError, match=r"\(evaluation after step 2; sample ids 0, 1"):
        trainer.evaluate(Rows())


def poisoned_rank(folder: Path) -> None:
    """Row 5 is in the batch of rank 0 alone; the other rank has to stop as well."""
    try:
        poisoned_trainer(folder, 5).train()
    except MetroFastError as error:
        (folder / f"error{os.environ['RANK']}.txt").write_text(str(error))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)


@pytest.mark.slow  # two processes
def test_all_ranks_stop_together(tmp_path: Path) -> None:
    run_ranks(2, poisoned_rank, tmp_path, folder=tmp_path)
    errors = [(tmp_path / f"error{rank}.txt").read_text() for rank in range(2)]
    assert errors[0] == errors[1]
    assert "on rank 0; sample ids 4, 5" in errors[0]
    assert [path.name for path in tmp_path.glob("*.pt")] == ["nonfinite-batch-step-1-rank-0.pt"]
