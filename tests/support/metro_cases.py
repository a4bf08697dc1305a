"""Small models, ragged rows, a plain collator and whole runs for the tests of METRO training."""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback

from metro_fast._training.objective import tokens_of
from metro_fast.metro import (
    MetroConfig,
    MetroForPretraining,
    MetroTrainer,
    MetroTrainingArguments,
)
from metro_fast.ops import torch as registered

PAD, EOS, MASK, VOCAB = 0, 1, 3, 97
LENGTHS = (23, 7, 31, 16, 12, 29, 5, 19)
MAIN = {
    "vocab_size": VOCAB,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "decoder_start_token_id": PAD,
}
COUNTS = ("num_masked", "num_labels", "num_encoder_tokens")


def metro_config(**options: Any) -> MetroConfig:
    main = {**MAIN, **options.pop("main", {})}
    return MetroConfig(main=main, **{"auxiliary": {"num_layers": 1}, **options})


def metro_model(seed: int = 0, **options: Any) -> MetroForPretraining:
    torch.manual_seed(seed)
    model = MetroForPretraining(metro_config(**options))
    with torch.no_grad():  # away from zero, so that detection has an effect
        for head in (model.rtd_head, model.rtd_decoder_head):
            if head is not None:
                head.output.weight.normal_(std=0.5)
    return model


class Rows(Dataset[dict[str, Any]]):
    """Ragged rows of token ids; the number of a row is its sample id."""

    def __init__(self, lengths: Sequence[int] = LENGTHS, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.rows = [generator.integers(4, VOCAB, size=length) for length in lengths]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"sample_id": index, "ids": self.rows[index]}


class MetroCollator:
    """Masks a row by (epoch, sample id), as metro_fast's own collator does, in plain Python.

    Args:
        unmasked: Sample ids that get no mask at all.
    """

    def __init__(self, unmasked: Sequence[int] = ()) -> None:
        self.epoch, self.unmasked = 0, frozenset(unmasked)
        self.seen: list[tuple[int, tuple[int, ...]]] = []

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        self.seen.append((self.epoch, tuple(int(row["sample_id"]) for row in rows)))
        width = max(len(row["ids"]) for row in rows)
        original = np.full((len(rows), width), PAD)
        masked = np.zeros((len(rows), width), dtype=bool)
        for i, row in enumerate(rows):
            n = len(row["ids"])
            original[i, :n] = row["ids"]
            if int(row["sample_id"]) not in self.unmasked:  # datasets 4.0 gives an array
                generator = np.random.default_rng([self.epoch, int(row["sample_id"])])
                masked[i, generator.choice(n, max(1, n // 5), replace=False)] = True
        return metro_batch(original, masked, [int(row["sample_id"]) for row in rows], self.epoch)


def metro_batch(
    original: np.ndarray, masked: np.ndarray, sample_ids: Sequence[int], epoch: int = 0
) -> dict[str, torch.Tensor]:
    tokens = original != PAD
    return {
        "input_ids": torch.from_numpy(np.where(masked, MASK, original)),
        "attention_mask": torch.from_numpy(tokens.astype(np.int64)),
        "labels": torch.from_numpy(np.where(tokens, original, -100)),
        "masked_positions": torch.from_numpy(np.flatnonzero(masked)),
        "sample_ids": torch.tensor(sample_ids, dtype=torch.int64),
        "epoch": torch.tensor(epoch),
        "num_masked": torch.tensor(int(masked.sum())),
        "num_labels": torch.tensor(int(tokens.sum())),
        "num_encoder_tokens": torch.tensor(int(tokens.sum())),
    }


class SpanCollator:
    """A stand-in for span corruption: input is the even half of a row, target the odd half."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        inputs = [torch.from_numpy(row["ids"][::2]) for row in rows]
        targets = [torch.from_numpy(row["ids"][1::2]) for row in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        input_ids = pad(inputs, batch_first=True, padding_value=PAD)
        labels = pad(targets, batch_first=True, padding_value=-100)
        return {
            "input_ids": input_ids,
            "attention_mask": (input_ids != PAD).long(),
            "labels": labels,
            "num_labels": (labels != -100).sum(),
            "sample_ids": torch.tensor([row["sample_id"] for row in rows]),
            "epoch": torch.tensor(0),
        }


def arguments(output: Path | str, **options: Any) -> MetroTrainingArguments:
    return MetroTrainingArguments(
        output_dir=str(output),
        **{
            "use_cpu": True,
            "disable_tqdm": True,
            "max_steps": 1,
            "learning_rate": 1e-3,
            "max_grad_norm": 0.0,
            "save_strategy": "no",
            "logging_steps": 1,
            "dataloader_pin_memory": False,
            "train_sampling_strategy": "sequential",
            **options,
        },
    )


class KeepGradients(TrainerCallback):
    """Keeps the gradient that the optimizer is about to use."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        self.gradients = {
            name: parameter.grad.detach().clone()
            for name, parameter in kw["model"].named_parameters()
        }


class MeanLossTrainer(MetroTrainer):
    """The control: mean losses under transformers' own normalization, at its best setting."""

    get_batch_samples = Trainer.get_batch_samples

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.loss_is_scaled_for_ga = None  # left to the stock trainer
        self.model_accepts_loss_kwargs = (
            False  # so that the trainer divides by the accumulation steps
        )

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        result = self.objective.run(model, inputs)
        counts = self.objective.count(inputs)
        self._window.add(counts, result, tokens_of(inputs))
        means = result.sums / counts.clamp(min=1)
        return (means * torch.tensor(self.objective.weights)).sum()


class Sampled:
    """Records the draws of the fused head by (sample id, position)."""

    def __init__(self) -> None:
        self.drawn: dict[tuple[int, int], int] = {}
        self.original = registered.linear_cross_entropy_sample

    def __call__(self, *tensors: torch.Tensor, **options: Any) -> registered.HeadOutput:
        found = self.original(*tensors, **options)
        if found.sampled is not None:
            keys = zip(options["sample_ids"].tolist(), options["positions"].tolist(), strict=True)
            self.drawn.update(zip(keys, found.sampled.tolist(), strict=True))
        return found


def one_step(
    output: Path | str, batch: int, accumulation: int, *, stock: bool = False, **options: Any
) -> tuple[dict[str, torch.Tensor], dict[tuple[int, int], int], dict[str, float]]:
    """Gradients, draws and log line of one METRO step over the eight ragged rows.

    `unmasked` names rows without masks and `model` the options of the model; the rest are arguments
    of the trainer.
    """
    unmasked, model = options.pop("unmasked", ()), options.pop("model", {})
    keep, sampled = KeepGradients(), Sampled()
    trainer = (MeanLossTrainer if stock else MetroTrainer)(
        metro_model(**model),
        arguments(
            output,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            **options,
        ),
        train_dataset=Rows(),
        data_collator=MetroCollator(unmasked),
        callbacks=[keep],
    )
    registered.linear_cross_entropy_sample = sampled
    try:
        trainer.train()
    finally:
        registered.linear_cross_entropy_sample = sampled.original
    return keep.gradients, sampled.drawn, trainer.state.log_history[0]


def evaluation(output: Path) -> dict[str, float]:
    """Figures over five held-out rows, in batches of two: each rank has another number of rows."""
    trainer = MetroTrainer(
        metro_model(),
        arguments(output, per_device_eval_batch_size=2),
        eval_dataset=Rows(LENGTHS[:5], seed=1),
        data_collator=MetroCollator(),
    )
    return dict(trainer.evaluate())


def gradient_rank(output: Path, cases: list[dict[str, Any]]) -> None:
    steps = [one_step(output / f"case{i}", 2, 2, **case) for i, case in enumerate(cases)]
    torch.save(steps, output / f"rank{os.environ['RANK']}.pt")
    line = evaluation(output / "evaluation")
    torch.save(line, output / f"evaluation{os.environ['RANK']}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    # About 1 run in 20 ended in SIGABRT after its last line ("terminate called without an active
    # exception"): a thread of gloo met the interpreter's teardown. The results are on disk.
    os._exit(0)


def resume_run(output: Path, *, resume: bool, kill_after: int, **options: Any) -> None:
    """Twelve steps with dropout; the process kills itself after step `kill_after`, if not 0.

    The options are further arguments of the trainer.
    """

    class Kill(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            if state.global_step == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

    trainer = MetroTrainer(
        metro_model(main={"dropout_rate": 0.1}),
        arguments(
            output,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            max_steps=12,
            save_strategy="steps",
            save_steps=5,
            logging_steps=3,
            train_sampling_strategy="random",
            **options,
        ),
        train_dataset=Rows(LENGTHS * 2),
        data_collator=MetroCollator(),
        callbacks=[Kill()],
    )
    trainer.train(resume_from_checkpoint=resume)
    torch.save(trainer.model.state_dict(), output / "final.pt")
    (output / "history.json").write_text(json.dumps(trainer.state.log_history))
