"""Batches for METRO pretraining."""

from dataclasses import replace
from typing import Any, Unpack

from metro_fast import _core
from metro_fast.data.collator import Collator
from metro_fast.data.rows import Rows
from metro_fast.data.vocabulary import mask_vocabulary, with_words
from metro_fast.errors import MetroFastError
from metro_fast.ops import MaskBatch, Masking, Vocabulary
from metro_fast.ops.arrays import Ids
from metro_fast.ops.draws import Draw
from metro_fast.ops.mask_tokens import GRAIN, mask_rows
from metro_fast.ops.masking import MaskKeywords, mask_settings
from metro_fast.ops.outputs import Outputs, finish
from metro_fast.ops.token_rows import TokenRows

_UPSTREAM_START = 4
"""The first id that upstream draws as a random token."""


class DataCollatorForMetro(Collator):
    """Masks rows of raw tokens for the auxiliary model, as `metro_fast.ops.mask_tokens` does.

    No EOS is added or taken away, because METRO's target is the original block (arXiv 2305.12567).
    Padding is what `attention_mask` says, on either side; a batch counts none of it.

    The batch holds torch tensors: `input_ids` (the masked rows), `attention_mask` and `labels` (the
    original ids, padded with -100), int64 [B, L]; `masked_positions` (int64 [M], flat indices into
    [B, L], ascending); `sample_ids` (int64 [B]); and int64 scalars `num_masked`, `num_labels`,
    `num_encoder_tokens` and `epoch`.

    Args:
        tokenizer: Supplies the ids that are not given, unless there is a `vocabulary`. If it has no
            mask token, its first sentinel takes its place, as in upstream's code.
        masking: How many tokens are masked, and what they become.
        vocabulary: Mask token, size and special ids; `mask_vocabulary` makes one from a tokenizer.
        whole_words: Whether to mask whole words, with the tokenizer's `word_starts` unless the
            vocabulary has its own. `mlm_probability` is then the share of the words.
        upstream: Whether to mask special tokens and to draw them at random, as the published code
            does: no id is special, and random ids start at 4.
        max_length: Number of tokens to which longer rows are cut, or None.
        input_length: Width of every batch, to which longer rows are cut, or None for that of its
            longest row. The number of masked positions still varies.
        seed: 0 to 2^63 - 1.
        pad_to_multiple_of: The width is rounded up to a multiple of this, or None.
        num_threads: Number of threads of a native call; None for as many as are worth starting.
        model_inputs_only: Whether batches hold nothing but the keys that a stock model takes
            (`input_ids`, `attention_mask`, `labels`, `decoder_input_ids`), as the `generate` of a
            `transformers.Seq2SeqTrainer` needs.
        **keywords: Everyday settings: `mlm_probability`, `mask_token_id`, `vocab_size` (by default
            the largest id of the tokenizer + 1), `special_token_ids` (by default the special tokens
            and sentinels of the tokenizer and ids without a token, or the mask and pad ids without
            a tokenizer) and `pad_token_id`.

    Raises:
        MetroFastError: If an id is neither given nor found in the tokenizer, a value is outside
            its domain, or the tokenizer does not mark words and whole ones are wanted.
        TypeError: If a keyword is unknown.

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
        masking: Masking | None = None,
        vocabulary: Vocabulary | None = None,
        whole_words: bool = False,
        upstream: bool = False,
        max_length: int | None = None,
        input_length: int | None = None,
        seed: int = 0,
        pad_to_multiple_of: int | None = None,
        num_threads: int | None = None,
        model_inputs_only: bool = False,
        **keywords: Unpack[MaskKeywords],
    ) -> None:
        if input_length is not None:
            max_length = input_length if max_length is None else min(max_length, input_length)
        super().__init__(
            seed=seed,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            num_threads=num_threads,
            model_inputs_only=model_inputs_only,
        )
        if input_length is not None and self._width(input_length) != input_length:
            raise MetroFastError(
                f"input_length is {input_length}, expected a multiple of pad_to_multiple_of "
                f"{pad_to_multiple_of}"
            )
        self.input_length = input_length
        special = keywords.get("special_token_ids")
        if vocabulary is None:
            vocabulary = mask_vocabulary(
                tokenizer,
                mask_token_id=keywords.get("mask_token_id"),
                vocab_size=keywords.get("vocab_size"),
                special_token_ids=special,
                pad_token_id=keywords.get("pad_token_id"),
            )
        elif special is None and vocabulary.special_token_ids != ():
            special = vocabulary.special_token_ids
        given: Any = {name: value for name, value in keywords.items() if value is not None}
        masking, vocabulary = mask_settings(masking, vocabulary, given, type(self).__name__)
        if whole_words:
            vocabulary = with_words(vocabulary, tokenizer)
        if upstream:
            if special is not None or masking.random_token_range is not None:
                raise MetroFastError(
                    "special_token_ids or random_token_range is given, but upstream=True sets "
                    "both: leave them out"
                )
            assert vocabulary.vocab_size is not None
            drawn = (_UPSTREAM_START, vocabulary.vocab_size)
            masking = replace(masking, random_token_range=drawn)
            vocabulary = replace(vocabulary, special_token_ids=())
        self.masking, self.vocabulary = masking, vocabulary
        self._native = self._make_options()

    def _make_options(self) -> _core.MaskOptions:
        return _core.MaskOptions(self.masking, self.vocabulary)

    def _settings(self) -> dict[str, object]:
        return {"masking": self.masking, "vocabulary": self.vocabulary}

    def _corrupt(self, rows: Rows, epoch: int) -> dict[str, Any]:
        tokens = TokenRows.read(rows.ids, rows.offsets, rows.sample_ids)
        widths = (self.input_length, None)
        outputs = Outputs.read(None, "int64", {}, True, False, widths, self.pad_to_multiple_of or 1)
        draw = Draw.read(self.seed, epoch, self.num_threads, rows.ids.size, GRAIN)
        arrays = mask_rows(self._native, tokens, outputs, draw)
        batch: MaskBatch[Ids] = finish(MaskBatch, arrays, tensor=False)
        count = int(batch.lengths.sum())
        return {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "labels": batch.labels,
            "masked_positions": batch.masked_positions,
            "num_masked": len(batch.masked_positions),
            "num_labels": count,
            "num_encoder_tokens": count,
        }
