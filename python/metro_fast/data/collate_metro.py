"""Batches for METRO pretraining."""

from collections.abc import Iterable
from typing import Any, Literal

from metro_fast.data.collator import Collator
from metro_fast.data.rows import Rows
from metro_fast.data.vocabulary import find_sentinels, find_special_ids, pick
from metro_fast.errors import MetroFastError
from metro_fast.ops.mask_tokens import mask_options, mask_with


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
        count: `"metro"`, or `"electra"` for its number of masked tokens; this and the next are
            explained at `metro_fast.ops.mask_tokens`.
        mlm_probability: Share of the eligible tokens that is masked.
        max_masked: Most draws of a row, or None.
        mask_span_length: Mean tokens of a masked span.
        mask_span_stdev: Standard deviation of the same.
        word_starts: bool [V]: whether an id starts a word; where given, whole words are masked.
        mask_replace_prob: Share of the masked tokens that becomes the mask token.
        random_replace_prob: Share of the masked tokens that becomes a random token.
        mask_token_id: Id of the mask token.
        vocab_size: Ids run from 0 to `vocab_size - 1`; `len(tokenizer)` by default.
        special_token_ids: Ids that are never masked and never drawn as random tokens; by default
            the tokenizer's special tokens and sentinels, or without a tokenizer the mask and pad
            ids.
        random_token_range: Random ids lie in (start, end); the vocabulary by default.
        upstream: Mask special tokens and draw them at random, as the published code does: no id is
            special, and random ids start at 4.
        pad_token_id: Id that fills the inputs.
        max_length: Tokens to which longer rows are cut, or None.
        input_length: Width of every batch, to which longer rows are cut, or None for its longest
            row. The number of masked positions still varies.
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
        count: Literal["metro", "electra"] = "metro",
        mlm_probability: float = 0.15,
        max_masked: int | None = None,
        mask_span_length: int = 1,
        mask_span_stdev: float = 0.0,
        word_starts: Any = None,
        mask_replace_prob: float = 0.8,
        random_replace_prob: float = 0.1,
        mask_token_id: int | None = None,
        vocab_size: int | None = None,
        special_token_ids: Iterable[int] | None = None,
        random_token_range: tuple[int, int] | None = None,
        upstream: bool = False,
        pad_token_id: int | None = None,
        max_length: int | None = None,
        input_length: int | None = None,
        seed: int = 0,
        pad_to_multiple_of: int | None = None,
        num_threads: int | None = None,
    ) -> None:
        if input_length is not None:
            max_length = input_length if max_length is None else min(max_length, input_length)
        super().__init__(
            seed=seed,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            num_threads=num_threads,
        )
        if input_length is not None and self._width(input_length) != input_length:
            raise MetroFastError(
                f"input_length is {input_length}, expected a multiple of pad_to_multiple_of "
                f"{pad_to_multiple_of}"
            )
        self.input_length = input_length
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
        if upstream:
            if special_token_ids is not None or random_token_range is not None:
                raise MetroFastError(
                    "upstream says which ids are special and random: leave special_token_ids and "
                    "random_token_range out"
                )
            special_token_ids, random_token_range = (), (4, vocab_size)
        if special_token_ids is None:
            special_token_ids = {mask_token_id, pad_token_id}
            if tokenizer is not None:
                special_token_ids |= set(find_special_ids(tokenizer))
        self.options: dict[str, Any] = {
            "count": count,
            "max_masked": max_masked,
            "mask_span_length": mask_span_length,
            "mask_span_stdev": mask_span_stdev,
            "word_starts": word_starts,
            "mlm_probability": mlm_probability,
            "mask_replace_prob": mask_replace_prob,
            "random_replace_prob": random_replace_prob,
            "mask_token_id": mask_token_id,
            "vocab_size": vocab_size,
            "special_token_ids": sorted(special_token_ids),
            "random_token_range": random_token_range,
            "pad_token_id": pad_token_id,
        }
        self._native = mask_options(**self.options)

    def _corrupt(self, rows: Rows, epoch: int) -> dict[str, Any]:
        batch = mask_with(
            self._native,
            rows.ids,
            offsets=rows.offsets,
            sample_ids=rows.sample_ids,
            attention_mask=True,
            seed=self.seed,
            epoch=epoch,
            num_threads=self.num_threads,
            width=self.input_length,
            multiple=self.pad_to_multiple_of or 1,
        )
        tokens = int(batch.lengths.sum())
        return {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "labels": batch.labels,
            "masked_positions": batch.masked_positions,
            "num_masked": len(batch.masked_positions),
            "num_labels": tokens,
            "num_encoder_tokens": tokens,
        }

    def __getstate__(self) -> dict[str, Any]:
        # Native options are made anew in the other process.
        return {name: value for name, value in vars(self).items() if name != "_native"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._native = mask_options(**self.options)
