"""Batches for METRO pretraining."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from metro_fast.data.collator import Collator
from metro_fast.data.rows import Rows
from metro_fast.data.vocabulary import find_sentinels, find_special_ids, pick
from metro_fast.errors import MetroFastError
from metro_fast.ops import mask_tokens


class DataCollatorForMetro(Collator):
    """Masks raw token rows for the auxiliary model: `metro_fast.ops.mask_tokens`, as a collator.

    No EOS is added: METRO's target is the original block (arXiv 2305.12567).

    The batch holds torch tensors: `input_ids` (the masked rows), `attention_mask` and `labels` (the
    original ids, padded with -100), int64 [B, L]; `masked_positions` (int64 [M], flat indices into
    [B, L], ascending); `sample_ids` (int64 [B]); and int64 scalars `num_masked`, `num_labels`,
    `num_encoder_tokens` and `epoch`.

    Args:
        tokenizer: Supplies the ids that are not given. Where it has no mask token, `<extra_id_0>`
            is it, as upstream uses its first sentinel.
        mlm_probability: Share of the eligible tokens that is masked.
        mask_replace_prob: Share of the masked tokens that becomes the mask token.
        random_replace_prob: Share of the masked tokens that becomes a random token.
        mask_token_id: Id of the mask token.
        vocab_size: Ids run from 0 to `vocab_size - 1`; `len(tokenizer)` by default.
        special_token_ids: Ids that are never masked and never drawn as random tokens; by default
            the tokenizer's special tokens and sentinels, or without a tokenizer the mask and pad
            ids.
        random_token_range: Random ids lie in (start, end); the vocabulary by default.
        pad_token_id: Id that fills the inputs.
        max_length: Tokens to which longer rows are cut, or None.
        seed: 0 to 2^63 - 1.
        pad_to_multiple_of: What the width is rounded up to, or None.
        num_threads: Threads of a native call; None for as many as pay.

    Raises:
        MetroFastError: If an id is neither given nor found in the tokenizer, or a value is outside
            its domain.

    Example:
        >>> collator = DataCollatorForMetro(mask_token_id=3, vocab_size=200, pad_token_id=0)
        >>> batch = collator([{"input_ids": list(range(100, 120)), "sample_id": 7}])
        >>> batch["labels"][0, :3].tolist(), batch["num_masked"].item()
        ([100, 101, 102], 3)
    """

    def __init__(
        self,
        tokenizer: Any = None,
        *,
        mlm_probability: float = 0.15,
        mask_replace_prob: float = 0.8,
        random_replace_prob: float = 0.1,
        mask_token_id: int | None = None,
        vocab_size: int | None = None,
        special_token_ids: Iterable[int] | None = None,
        random_token_range: tuple[int, int] | None = None,
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
        if vocab_size is None:
            if tokenizer is None:
                raise MetroFastError("vocab_size is None, and there is no tokenizer: give a size")
            vocab_size = len(tokenizer)
        if mask_token_id is None and tokenizer is not None:
            mask_token_id = tokenizer.mask_token_id
            if mask_token_id is None:
                mask_token_id = find_sentinels(tokenizer).first
        mask_token_id = pick("mask_token_id", mask_token_id, None, "")
        pad_token_id = pick("pad_token_id", pad_token_id, tokenizer, "pad_token_id")
        if special_token_ids is None:
            special_token_ids = {mask_token_id, pad_token_id}
            if tokenizer is not None:
                special_token_ids |= set(find_special_ids(tokenizer))
        self.options: dict[str, Any] = {
            "mlm_probability": mlm_probability,
            "mask_replace_prob": mask_replace_prob,
            "random_replace_prob": random_replace_prob,
            "mask_token_id": mask_token_id,
            "vocab_size": vocab_size,
            "special_token_ids": sorted(special_token_ids),
            "random_token_range": random_token_range,
            "pad_token_id": pad_token_id,
        }
        # Checks the options before the first batch does.
        mask_tokens(np.zeros((1, 1), np.int64), **self.options)

    def _corrupt(self, rows: Rows, epoch: int) -> dict[str, Any]:
        count = len(rows.sample_ids)
        width = self._width(rows.longest)
        batch = mask_tokens(
            rows.ids,
            offsets=rows.offsets,
            sample_ids=rows.sample_ids,
            seed=self.seed,
            epoch=epoch,
            num_threads=self.num_threads,
            out=(np.empty((count, width), np.int64), np.empty((count, width), np.int64)),
            **self.options,
        )
        tokens = int(batch.lengths.sum())
        return {
            "input_ids": batch.input_ids,
            "attention_mask": (np.arange(width) < batch.lengths[:, None]).astype(np.int64),
            "labels": batch.labels,
            "masked_positions": batch.masked_positions,
            "num_masked": len(batch.masked_positions),
            "num_labels": tokens,
            "num_encoder_tokens": tokens,
        }
