"""Runs that 1 and 2 ranks must make alike, and a function that each of two ranks calls."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import T5Config, T5ForConditionalGeneration

from metro_cases import (
    LENGTHS,
    MAIN,
    MetroCollator,
    Rows,
    SpanCollator,
    arguments,
    metro_model,
)
from metro_fast._training.training_rows import is_filler
from metro_fast.data import CorpusLoader, TokenCorpus, write_corpus
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroTrainer
from streaming_cases import PlainStream

CASES: dict[str, dict[str, Any]] = {
    "metro, odd": {
        "rows": 11,
        "accelerator_config": {"even_batches": False},
        "include_num_input_tokens_seen": "non_padding",
    },
    "metro, fewer than ranks": {"rows": 9},
    "metro, one row": {"rows": 1},
    "metro, shuffled, accumulated": {
        "rows": 9,
        "gradient_accumulation_steps": 2,
        "train_sampling_strategy": "random",
    },
    "metro, one row per rank, workers": {
        "rows": 9,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "dataloader_num_workers": 1,
    },
    "metro, dropped": {"rows": 11, "dataloader_drop_last": True},
    "span, odd": {"rows": 9, "span": True},
    "stream, odd": {"rows": 9, "stream": True, "max_steps": 9},
}
"""With 4 rows per micro-step of all ranks, the last has 3 rows, or 1, which only one rank gets."""


class Counting(MetroTrainer):
    """Keeps the sample ids of every step whose losses count."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.counted: list[list[int]] = []
        super().__init__(*args, **options)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], *args: Any) -> Any:
        batches, counts = super().get_batch_samples(epoch_iterator, *args)
        own = [batch["sample_ids"].tolist() for batch in batches if not is_filler(batch)]
        self.counted.append([i for ids in own for i in ids])
        return batches, counts


def span_model(**options: Any) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    return T5ForConditionalGeneration(T5Config(**{**MAIN, **options}))


def run(folder: Path, case: dict[str, Any], ranks: int) -> dict[str, Any]:
    """Three epochs on the rows of a case; one rank has the batches of both."""
    options = {
        "per_device_train_batch_size": 2,
        "max_steps": -1,
        "num_train_epochs": 3,
        "learning_rate": 1e-4,
        **case,
    }
    size, stream = options.pop("rows"), options.pop("stream", False)
    span = options.pop("span", False)
    if ranks == 1:
        options["per_device_train_batch_size"] *= 2
    lengths = (LENGTHS * 2)[:size]
    trainer = Counting(
        span_model() if span else metro_model(),
        arguments(folder, **options),
        train_dataset=PlainStream(size, lengths) if stream else Rows(lengths),
        data_collator=SpanCollator() if span else MetroCollator(),
    )
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    return {
        "losses": [line["loss"] for line in lines],
        "tokens": [line["tokens"] for line in lines],
        "flops": [line["total_flos"] for line in lines],
        "counted": trainer.counted,
        "seen": trainer.state.num_input_tokens_seen,
        "weights": trainer.model.state_dict(),
    }


def loaded_rows(folder: Path) -> list[list[int]]:
    """The sample ids of each step that a CorpusLoader gives to this process, over three epochs."""
    corpus = folder / f"corpus{os.environ.get('RANK', '')}"
    write_corpus(corpus, [list(range(4, 4 + 9 * 5))])
    rows = TokenCorpus(corpus, block_size=5, shuffle=True)
    loader = CorpusLoader(rows, batch_size=4, epochs=3, drop_last=True)
    return [batch["sample_id"].tolist() for batch in loader]


def steady_run(folder: Path, **options: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses and the weights after six steps with dropout, in three epochs of 9 rows."""
    trainer = MetroTrainer(
        metro_model(main={"dropout_rate": 0.1}),
        arguments(
            folder, per_device_train_batch_size=3, max_steps=6, **{"logging_steps": 3, **options}
        ),
        train_dataset=Rows((LENGTHS * 2)[:9]),
        eval_dataset=Rows(LENGTHS[:5], seed=1),
        data_collator=MetroCollator(),
    )
    trainer.train()
    lines = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return lines, trainer.model.state_dict()


def group_options(folder: Path) -> dict[str, Any]:
    """The backend of the process group, and the refusal of a timeout for it."""
    arguments(folder, ddp_backend="gloo")
    try:
        arguments(folder, ddp_timeout=321)
    except MetroFastError as error:
        return {"backend": torch.distributed.get_backend(), "timeout": str(error)[:44]}
    return {}


def wrapper_options(folder: Path) -> dict[str, Any]:
    """The options of the wrapper that joins the gradients."""
    trainer = MetroTrainer(
        metro_model(),
        arguments(
            folder,
            ddp_find_unused_parameters=True,
            ddp_bucket_cap_mb=7,
            ddp_broadcast_buffers=False,
            ddp_static_graph=True,
        ),
        train_dataset=Rows(),
        data_collator=MetroCollator(),
    )
    trainer.train()
    names = ("find_unused_parameters", "bucket_bytes_cap", "broadcast_buffers", "static_graph")
    return {name: getattr(trainer.model_wrapped, name) for name in names}


EVALUATED = {
    "eval_strategy": "steps",
    "eval_steps": 1,
    "eval_on_start": True,
    "save_strategy": "steps",
    "save_steps": 2,
}


def epochs_rank(folder: Path) -> None:
    _finish(folder, {name: run(folder / name, case, 2) for name, case in CASES.items()})


def steady_rank(folder: Path) -> None:
    results: dict[str, Any] = {"ddp": {**group_options(folder), **wrapper_options(folder)}}
    results["plain"] = steady_run(folder / "plain")
    results["evaluated"] = steady_run(folder / "evaluated", **EVALUATED)
    results["CorpusLoader"] = loaded_rows(folder)  # after the trainer has made the process group
    _finish(folder, results)


def _finish(folder: Path, results: dict[str, Any]) -> None:
    torch.save(results, folder / f"results{os.environ['RANK']}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)  # see metro_cases: gloo's thread against the interpreter's teardown
