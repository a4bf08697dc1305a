"""What the collators share: the epoch, the names of samples, and batches that are finished."""

import warnings
from abc import ABC, abstractmethod
from collections import UserDict
from typing import Any

from metro_fast._extras import require
from metro_fast.data.epoch import EpochCell
from metro_fast.data.rows import Rows, read_batch
from metro_fast.data.sample_ids import content_ids
from metro_fast.errors import MetroFastError
from metro_fast.ops.draws import check_counter, resolve_threads


class FinishedBatch(UserDict[str, Any]):
    """A batch that a dataset has collated itself, on its way through the DataLoader's collator.

    It is no dict, so a Trainer that removes columns from dicts leaves it whole.
    """


class Collator(ABC):
    """Base of the collators: features in, a dict of torch tensors out.

    Args:
        seed: 0 to 2^63 - 1.
        max_length: Tokens to which longer rows are cut, or None.
        pad_to_multiple_of: What the widths of the batch are rounded up to, or None.
        num_threads: Threads of a native call; None for as many as pay (one in a worker).
    """

    def __init__(
        self,
        *,
        seed: int,
        max_length: int | None,
        pad_to_multiple_of: int | None,
        num_threads: int | None,
    ) -> None:
        self.seed = check_counter("seed", seed)
        for name, value in (("max_length", max_length), ("pad_to_multiple_of", pad_to_multiple_of)):
            if value is not None and check_counter(name, value) == 0:
                raise MetroFastError(f"{name} is 0, expected 1 or more, or None")
        resolve_threads(num_threads, 0, 1)
        self.max_length = max_length
        self.pad_to_multiple_of = pad_to_multiple_of
        self.num_threads = num_threads
        self.epoch = EpochCell()
        self._warned: set[str] = set()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, for the workers that hold a copy of this collator too."""
        self.epoch.set(epoch)

    def __call__(self, features: Any) -> dict[str, Any]:
        """Collate a batch, or hand on the one that the dataset has finished.

        Args:
            features: Mappings with `input_ids` and, in all or none, `sample_id`; rows without
                names; an array [B, L]; a mapping of columns; an Arrow table; or a list of one
                batch, as `TokenCorpus.__getitems__` returns it.
        """
        if (
            isinstance(features, list)
            and len(features) == 1
            and isinstance(features[0], FinishedBatch)
        ):
            return dict(features[0])
        rows = read_batch(features, self.max_length)
        sample_ids = rows.sample_ids
        if sample_ids is None:
            self._warn_once(
                "the batch has no sample_id, so rows are named by a hash of their tokens: equal "
                "rows of different batches get equal noise. Add an int column sample_id (and "
                "remove_unused_columns=False to a Trainer) for noise that no batching can change."
            )
            sample_ids = content_ids(rows.split())
        return self.collate(Rows(rows.ids, rows.offsets, sample_ids, rows.positions))

    def collate(self, rows: Rows) -> dict[str, Any]:
        """Corrupt named rows; see the class for the keys of the batch."""
        if self.epoch.came_round(rows.sample_ids):
            self._warn_once(
                "samples come round again, but nobody has set the epoch: every epoch will draw the "
                "same noise. Call set_epoch at the start of each, or give a Trainer "
                "callbacks=[metro_fast.data.EpochCallback(collator)]."
            )
        torch = require("torch", "torch")
        epoch = self.epoch.get()
        batch = {name: torch.as_tensor(value) for name, value in self._corrupt(rows, epoch).items()}
        batch["sample_ids"] = torch.from_numpy(rows.sample_ids)
        batch["epoch"] = torch.tensor(epoch, dtype=torch.int64)
        return batch

    @abstractmethod
    def _corrupt(self, rows: Rows, epoch: int) -> dict[str, Any]:
        """The batch as int64 arrays and Python integers."""

    def _width(self, longest: int) -> int:
        """The width of an array that holds rows of up to `longest` ids."""
        multiple = self.pad_to_multiple_of or 1
        return -(-longest // multiple) * multiple

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            info = require("torch.utils.data", "torch").get_worker_info()
            if info is None or info.id == 0:
                warnings.warn(message, stacklevel=4)
