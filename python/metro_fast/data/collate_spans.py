"""Batches for span corruption, and for mixtures of denoisers."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from metro_fast.data.collator import Collator
from metro_fast.data.rows import Rows
from metro_fast.data.vocabulary import find_sentinels, pick
from metro_fast.errors import MetroFastError
from metro_fast.ops import Denoiser
from metro_fast.ops.corrupt_spans import corrupt_with
from metro_fast.ops.draws import check_counter
from metro_fast.ops.span_options import span_options


class DataCollatorForSpanCorruption(Collator):
    """Corrupts raw token rows as T5 does: `metro_fast.ops.corrupt_spans`, as a collator.

    A batch may be a list of mappings with `input_ids` and `sample_id`, a list of rows, an array
    [B, L], a mapping of columns, or an Arrow table. What comes out holds torch tensors: `input_ids`
    and `attention_mask` (int64 [B, Li]), `labels` (int64 [B, Ll], padded with -100), with a decoder
    start id `decoder_input_ids`; `sample_ids` and `denoisers` (int64 [B]); and int64 scalars
    `num_labels`, `num_encoder_tokens` and `epoch`.

    Args:
        tokenizer: Supplies the ids that are not given.
        noise_density: Share of noise tokens; 0.15 by default.
        mean_noise_span_length: Mean tokens of a span; 3 by default.
        denoisers: One task or a mixture, instead of the two before.
        sentinel_first: Id of the first sentinel. If it is given, the next two hold as well, and the
            tokenizer's sentinels are not looked at.
        sentinel_step: 1 or -1: what leads from a sentinel to the next.
        num_sentinels: Sentinels of the vocabulary.
        on_sentinel_shortage: `"error"`, or `"clamp"`: no more spans than sentinels.
        eos_token_id: Id that ends inputs and labels.
        target_end_token_id: Id that ends the labels; `eos_token_id` by default.
        pad_token_id: Id that fills the inputs.
        decoder_start_token_id: Where given, `decoder_input_ids` are made.
        vocab_size: Where given, ids at or above it are refused.
        word_starts: bool [V]: whether an id starts a word; where given, whole words are hidden.
        special_token_ids: Ids that are never noise.
        max_length: Raw tokens to which longer rows are cut, or None.
        input_length: Width of every batch's inputs, or None for its longest row: a shape that never
            changes compiles once. Longer rows are cut before their end.
        target_length: The same of the labels.
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
        >>> batch["input_ids"].shape, batch["labels"].shape, batch["num_labels"].item()
        (torch.Size([1, 19]), torch.Size([1, 5]), 5)
    """

    def __init__(
        self,
        tokenizer: Any = None,
        *,
        noise_density: float | None = None,
        mean_noise_span_length: float | None = None,
        denoisers: Denoiser | Sequence[Denoiser] | None = None,
        sentinel_first: int | None = None,
        sentinel_step: int = -1,
        num_sentinels: int = 100,
        on_sentinel_shortage: Literal["error", "clamp"] = "error",
        eos_token_id: int | None = None,
        target_end_token_id: int | None = None,
        pad_token_id: int | None = None,
        decoder_start_token_id: int | None = None,
        vocab_size: int | None = None,
        word_starts: Any = None,
        special_token_ids: Iterable[int] = (),
        max_length: int | None = None,
        input_length: int | None = None,
        target_length: int | None = None,
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
        if denoisers is None:
            denoisers = Denoiser(
                noise_density=0.15 if noise_density is None else noise_density,
                mean_noise_span_length=(
                    3.0 if mean_noise_span_length is None else mean_noise_span_length
                ),
            )
        elif noise_density is not None or mean_noise_span_length is not None:
            raise MetroFastError(
                "noise_density and mean_noise_span_length belong to the default law: with "
                "denoisers, give them there"
            )
        if sentinel_first is None and tokenizer is not None:
            sentinel_first, sentinel_step, num_sentinels = find_sentinels(tokenizer)
        self.input_length = self._fixed("input_length", input_length)
        self.target_length = self._fixed("target_length", target_length)
        self.decoder_input_ids = decoder_start_token_id is not None
        self.options: dict[str, Any] = {
            "denoisers": denoisers,
            "sentinel_first": pick("sentinel_first", sentinel_first, None, ""),
            "sentinel_step": sentinel_step,
            "num_sentinels": num_sentinels,
            "on_sentinel_shortage": on_sentinel_shortage,
            "eos_token_id": pick("eos_token_id", eos_token_id, tokenizer, "eos_token_id"),
            "target_end_token_id": target_end_token_id,
            "pad_token_id": pick("pad_token_id", pad_token_id, tokenizer, "pad_token_id"),
            "decoder_start_token_id": decoder_start_token_id,
            "vocab_size": vocab_size,
            "word_starts": word_starts,
            "special_token_ids": tuple(special_token_ids),
            "max_input_length": input_length,
            "max_target_length": target_length,
        }
        self._native = span_options(**self.options)

    def _fixed(self, name: str, length: int | None) -> int | None:
        if length is not None and check_counter(name, length) < 2:
            raise MetroFastError(f"{name} is {length}, expected 2 or more, or None")
        if length is not None and self._width(length) != length:
            raise MetroFastError(
                f"{name} is {length}, expected a multiple of pad_to_multiple_of "
                f"{self.pad_to_multiple_of}"
            )
        return length

    def _phases(self, rows: Rows) -> Any:
        """The phase of training of every row, by which denoisers are weighted; None for one."""
        return None

    def _corrupt(self, rows: Rows, epoch: int) -> dict[str, Any]:
        batch = corrupt_with(
            self._native,
            rows.ids,
            offsets=rows.offsets,
            sample_ids=rows.sample_ids,
            phases=self._phases(rows),
            attention_mask=True,
            decoder_input_ids=self.decoder_input_ids,
            seed=self.seed,
            epoch=epoch,
            num_threads=self.num_threads,
            widths=(self.input_length, self.target_length),
            multiple=self.pad_to_multiple_of or 1,
        )
        made = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "labels": batch.labels,
            "denoisers": batch.denoisers,
            "num_labels": int(batch.label_lengths.sum()),
            "num_encoder_tokens": int(batch.input_lengths.sum()),
        }
        if self.decoder_input_ids:
            made["decoder_input_ids"] = batch.decoder_input_ids
        return made

    def __getstate__(self) -> dict[str, Any]:
        # Native options are made anew in the other process.
        return {name: value for name, value in vars(self).items() if name != "_native"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._native = span_options(**self.options)
