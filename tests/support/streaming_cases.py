"""Streams of the rows of metro_cases, and a program that is one of two ranks.

`torchrun tests/support/streaming_cases.py FOLDER` trains on streams of several kinds and saves what
this rank saw.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import IterableDataset as TorchStream

from metro_cases import (
    LENGTHS,
    KeepGradients,
    MetroCollator,
    Rows,
    arguments,
    metro_model,
)
from metro_fast.metro import MetroTrainer


class PlainStream(TorchStream[Any]):
    """The first rows of metro_cases, as a torch stream."""

    def __init__(self, rows: int = 8, lengths: Sequence[int] = LENGTHS) -> None:
        self.rows, self.lengths = rows, lengths

    def __iter__(self) -> Iterator[dict[str, Any]]:
        data = Rows(self.lengths)
        return (data[i] for i in range(self.rows))


def stream(shards: int, rows: int = 8) -> IterableDataset:
    """The same rows as a stream of Hugging Face datasets."""
    data = Rows()
    columns = {"sample_id": list(range(rows)), "ids": [data[i]["ids"] for i in range(rows)]}
    table = Dataset.from_dict(columns).with_format("numpy")
    return table.to_iterable_dataset(num_shards=shards)


def train(folder: Path, data: Any, **options: Any) -> MetroTrainer:
    """One run; `trainer.kept` has the last gradient, `trainer.data_collator.seen` the rows."""
    keep = KeepGradients()
    resume = options.pop("resume", False)
    trainer = MetroTrainer(
        metro_model(),
        arguments(folder, **options),
        train_dataset=data,
        data_collator=MetroCollator(),
        callbacks=[keep],
    )
    trainer.train(resume_from_checkpoint=resume)
    trainer.kept = keep.gradients
    return trainer


def _rank(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    cases = {
        "shards": (stream(2), {}),
        "examples": (stream(3), {}),
        "plain": (PlainStream(), {}),
        "split by hand": (split_dataset_by_node(stream(2), rank, 2), {}),
        "split by itself": (PlainStream(), {"split_stream": False}),
        "uneven": (stream(2, rows=5), {"max_steps": 3, "gradient_accumulation_steps": 1}),
    }
    sizes = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    results = {}
    for name, (data, options) in cases.items():
        trainer = train(folder / name, data, **{**sizes, **options})
        line = trainer.state.log_history[0]
        seen = [(epoch, [int(i) for i in ids]) for epoch, ids in trainer.data_collator.seen]
        results[name] = (seen, trainer.kept, line)
    torch.save(results, folder / f"rank{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)  # see metro_cases: gloo's thread against the interpreter's teardown


if __name__ == "__main__":
    torch.set_num_threads(1)
    _rank(Path(sys.argv[1]))
