"""The base of the collators: the epoch, the names of samples, and finished batches."""

import warnings
from abc import ABC, abstractmethod
from collections import UserDict
from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast._shown import quoted
from metro_fast.data.epoch import EpochCell
from metro_fast.data.padding import ranges_without_end, refuse_padded_ranges
from metro_fast.data.rows import Rows, read_batch
from metro_fast.data.sample_ids import content_ids
from metro_fast.errors import MetroFastError
from metro_fast.ops import Vocabulary
from metro_fast.ops.draws import check_counter, resolve_threads
from metro_fast.ops.token_rows import TextRanges

if TYPE_CHECKING:
    import torch


class FinishedBatch(UserDict[str, "torch.Tensor"]):
    """A batch that a dataset has collated itself, on its way through the DataLoader's collator.

    It is not a dict, so a Trainer that removes columns from dicts does not change it.
    """


MODEL_INPUTS = ("input_ids", "attention_mask", "labels", "decoder_input_ids")
"""The keys of a batch that a stock model's `forward` and `generate` take."""


class Collator(ABC):
    """Base of the collators, which turn features into a dict of torch tensors.

    A subclass has a `vocabulary`.

    Args:
        seed: 0 to 2^63 - 1.
        max_length: Number of tokens to which longer rows are cut, or None.
        pad_to_multiple_of: Widths of the batch are rounded up to a multiple of this, or None.
        num_threads: Number of threads of a native call; None for as many as are worth starting (1
            in a worker).
        model_inputs_only: Whether batches hold nothing but `MODEL_INPUTS`.
    """

    vocabulary: Vocabulary

    def __init__(
        self,
        *,
        seed: int,
        max_length: int | None,
        pad_to_multiple_of: int | None,
        num_threads: int | None,
        model_inputs_only: bool,
    ) -> None:
        self.seed = check_counter("seed", seed)
        for name, value in (("max_length", max_length), ("pad_to_multiple_of", pad_to_multiple_of)):
            if value is not None and check_counter(name, value) == 0:
                raise MetroFastError(f"{name} is 0, expected 1 or more, or None")
        resolve_threads(num_threads, 0, 1)
        self.max_length = max_length
        self.pad_to_multiple_of = pad_to_multiple_of
        self.num_threads = num_threads
        if not isinstance(model_inputs_only, bool):
            raise TypeError(
                f"model_inputs_only is {quoted(model_inputs_only)}, expected True or False"
            )
        self.model_inputs_only = model_inputs_only
        self.epoch = EpochCell()
        self._warned: set[str] = set()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, also for workers that hold a copy of this collator."""
        self.epoch.set(epoch)

    def __call__(self, features: Any) -> "dict[str, torch.Tensor]":
        """Collate a batch, or return the one that the dataset has finished.

        Args:
            features: Mappings with `input_ids` and, in all or none, `attention_mask` and
                `sample_id`; rows without names; an array [B, L]; a mapping of columns, such as a
                BatchEncoding; an Arrow table; or a list of one batch, as
                `TokenCorpus.__getitems__` returns it.

        Raises:
            MetroFastError: If a row is empty or seems to be padded without an `attention_mask`, the
                rows have labels of their own, or a column does not fit the rows.
            TypeError: If the ids are not integers.
        """
        if (
            isinstance(features, list)
            and len(features) == 1
            and isinstance(features[0], FinishedBatch)
        ):
            return dict(features[0])
        rows = read_batch(features, self.max_length, self.vocabulary, self._end_token_id)
        sample_ids = rows.sample_ids
        if sample_ids is None:
            self._warn_once(
                "the batch has no sample_id, so rows are named by a hash of their tokens, and "
                "equal rows in different batches get equal noise. For noise that does not depend "
                "on the batches, add an int column sample_id (and give a Trainer "
                "remove_unused_columns=False)."
            )
            sample_ids = content_ids(rows.split())
        return self.collate(Rows(rows.ids, rows.offsets, sample_ids, rows.positions))

    def collate(self, rows: Rows) -> "dict[str, torch.Tensor]":
        """Corrupt named rows; see the class for the keys of the batch."""
        if self.epoch.came_round(rows.sample_ids):
            self._warn_once(
                "samples come round again, but nobody has set the epoch, so every epoch will draw "
                "the same noise. Call set_epoch at the start of each epoch, or give a Trainer "
                "callbacks=[metro_fast.data.EpochCallback(collator)]."
            )
        torch = require("torch", "torch")
        epoch = self.epoch.get()
        if isinstance(rows.ids, TextRanges):
            refuse_padded_ranges(rows.ids, self.vocabulary)
            if self._end_token_id is not None:
                rows = rows._replace(ids=ranges_without_end(rows.ids, self._end_token_id))
        columns = self._corrupt(rows, epoch)
        batch: dict[str, Any] = {
            name: torch.as_tensor(x)
            for name, x in columns.items()
            if name in MODEL_INPUTS or not self.model_inputs_only
        }
        if self.model_inputs_only:
            return batch
        batch["sample_ids"] = torch.from_numpy(rows.sample_ids)
        batch["epoch"] = torch.tensor(epoch, dtype=torch.int64)
        return batch

    @property
    def _end_token_id(self) -> int | None:
        """The id that the collator puts at the ends of texts, which rows may have there already."""
        return None

    @abstractmethod
    def _corrupt(self, rows: Rows, epoch: int) -> dict[str, Any]:
        """The batch as int64 arrays and Python integers."""

    @abstractmethod
    def _make_options(self) -> Any:
        """The settings as the native module holds them, which cannot be pickled."""

    @abstractmethod
    def _settings(self) -> dict[str, object]:
        """The settings that the repr shows first."""

    def __repr__(self) -> str:
        parts = self._settings() | {"seed": self.seed}
        values = ", ".join(f"{name}={value!r}" for name, value in parts.items())
        return f"{type(self).__name__}({values})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_native"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._native = self._make_options()

    def _width(self, longest: int) -> int:
        """Width of an array that holds rows of up to `longest` ids."""
        multiple = self.pad_to_multiple_of or 1
        return -(-longest // multiple) * multiple

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            info = require("torch.utils.data", "torch").get_worker_info()
            if info is None or info.id == 0:
                warnings.warn(message, stacklevel=4)
