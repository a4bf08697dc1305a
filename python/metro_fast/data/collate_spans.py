"""Batches for T5's denoising objective."""

from typing import Any

import numpy as np

from metro_fast.data.collator import Collator
from metro_fast.data.rows import Rows
from metro_fast.data.vocabulary import find_sentinels, pick
from metro_fast.ops import corrupt_spans


class DataCollatorForSpanCorruption(Collator):
    """Corrupts spans of raw token rows: `metro_fast.ops.corrupt_spans`, as a collator.

    The batch holds torch tensors: `input_ids`, `attention_mask` and `labels` (int64 [B, L], labels
    padded with -100), `sample_ids` (int64 [B]), and int64 scalars `num_labels` (labels that are not
    padding) and `epoch`.

    Args:
        tokenizer: Supplies the ids that are not given: sentinels from `<extra_id_0>`, EOS, pad.
        noise_density: Share of noise tokens, in [0, 1).
        mean_noise_span_length: Mean tokens of a span, at least 1.
        sentinel_first: Id of the first sentinel. If it is given, the next two hold as well, and the
            tokenizer's sentinels are not looked at.
        sentinel_step: 1 or -1: what leads from a sentinel to the next.
        num_sentinels: Sentinels of the vocabulary.
        eos_token_id: Id that ends inputs and labels.
        pad_token_id: Id that fills the inputs.
        max_length: Raw tokens to which longer rows are cut, or None.
        seed: 0 to 2^63 - 1.
        pad_to_multiple_of: What both widths are rounded up to, or None.
        num_threads: Threads of a native call; None for as many as pay.

    Raises:
        MetroFastError: If an id is neither given nor found in the tokenizer, or a value is outside
            its domain.

    Example:
        >>> collator = DataCollatorForSpanCorruption(
        ...     sentinel_first=99, eos_token_id=1, pad_token_id=0
        ... )
        >>> batch = collator([{"input_ids": list(range(100, 120)), "sample_id": 7}])
        >>> {name: list(tensor.shape) for name, tensor in batch.items()}
        {'input_ids': [1, 19], 'attention_mask': [1, 19], 'labels': [1, 5], 'num_labels': [], \
'sample_ids': [1], 'epoch': []}
    """

    def __init__(
        self,
        tokenizer: Any = None,
        *,
        noise_density: float = 0.15,
        mean_noise_span_length: float = 3.0,
        sentinel_first: int | None = None,
        sentinel_step: int = -1,
        num_sentinels: int = 100,
        eos_token_id: int | None = None,
        pad_token_id: int | None = None,
        max_length: int | None = None,
        seed: int = 0,
        pad_to_multiple_of: int | None = None,
        num_threads: int | None = None,
    ) -> None:
        super().__init__(
            seed=seed,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            num_threads=num_threads,
        )
        if sentinel_first is None and tokenizer is not None:
            sentinel_first, sentinel_step, num_sentinels = find_sentinels(tokenizer)
        self.options: dict[str, Any] = {
            "noise_density": noise_density,
            "mean_noise_span_length": mean_noise_span_length,
            "eos_token_id": pick("eos_token_id", eos_token_id, tokenizer, "eos_token_id"),
            "pad_token_id": pick("pad_token_id", pad_token_id, tokenizer, "pad_token_id"),
            "sentinel_first": pick("sentinel_first", sentinel_first, None, ""),
            "sentinel_step": sentinel_step,
            "num_sentinels": num_sentinels,
        }
        # One token is never corrupted, so this checks the options before the first batch does.
        above = self.options["sentinel_first"] + num_sentinels
        corrupt_spans(np.array([[above]]), **self.options)

    def _corrupt(self, rows: Rows, epoch: int) -> dict[str, Any]:
        batch = corrupt_spans(
            rows.ids,
            offsets=rows.offsets,
            sample_ids=rows.sample_ids,
            seed=self.seed,
            epoch=epoch,
            num_threads=self.num_threads,
            **self.options,
        )
        input_ids = self._padded(batch.input_ids, self.options["pad_token_id"])
        columns = np.arange(input_ids.shape[1])
        return {
            "input_ids": input_ids,
            "attention_mask": (columns < batch.input_lengths[:, None]).astype(np.int64),
            "labels": self._padded(batch.labels, -100),
            "num_labels": int(batch.label_lengths.sum()),
        }

    def _padded(self, ids: Any, fill: int) -> Any:
        missing = self._width(ids.shape[1]) - ids.shape[1]
        return ids if missing == 0 else np.pad(ids, ((0, 0), (0, missing)), constant_values=fill)
