"""Batches for span corruption, and for mixtures of denoisers."""

from dataclasses import replace
from typing import Any, Unpack

from metro_fast import _core
from metro_fast.data.collator import Collator
from metro_fast.data.rows import Rows
from metro_fast.data.vocabulary import span_vocabulary
from metro_fast.errors import MetroFastError
from metro_fast.ops import SpanBatch, SpanCorruption, Vocabulary
from metro_fast.ops.arrays import Ids
from metro_fast.ops.corrupt_spans import GRAIN, corrupt_rows
from metro_fast.ops.draws import Draw, check_counter
from metro_fast.ops.outputs import Outputs, finish
from metro_fast.ops.span_corruption import SpanKeywords, span_settings
from metro_fast.ops.token_rows import TokenRows


class DataCollatorForSpanCorruption(Collator):
    """Corrupts rows of raw tokens as `metro_fast.ops.corrupt_spans` does; by default as T5.

    A batch may be a list of mappings with `input_ids` and `sample_id`, a list of rows, an array
    [B, L], a mapping of columns such as a BatchEncoding, or an Arrow table. Padding is what
    `attention_mask` says, on either side. A row may end with EOS or not: the collator puts one at
    the ends of inputs and labels. The result holds torch tensors: `input_ids` and
    `attention_mask` (int64 [B, Li]); `labels` (int64 [B, Ll], padded with -100);
    `decoder_input_ids`, if the vocabulary has a decoder start id; `sample_ids` and `denoisers`
    (int64 [B]); and int64 scalars `num_labels`, `num_encoder_tokens` and `epoch`.

    Args:
        tokenizer: Supplies the ids that are not given, unless there is a `vocabulary`.
        corruption: Denoisers, and what to do if sentinels run short.
        vocabulary: Sentinels and the other special ids; `span_vocabulary` makes one from a
            tokenizer.
        max_length: Number of raw tokens to which longer rows are cut, or None.
        input_length: Width of the inputs of every batch, or None for that of its longest row. A
            shape that never changes is compiled once. Longer rows are cut, but keep their end.
        target_length: The same for the labels.
        seed: 0 to 2^63 - 1.
        pad_to_multiple_of: Both widths are rounded up to a multiple of this, or None.
        num_threads: Number of threads of a native call; None for as many as are worth starting.
        model_inputs_only: Whether batches hold nothing but the keys that a stock model takes
            (`input_ids`, `attention_mask`, `labels`, `decoder_input_ids`), as the `generate` of a
            `transformers.Seq2SeqTrainer` needs.
        **keywords: Everyday settings: `noise_density`, `mean_noise_span_length`, `denoisers`,
            `sentinel_first`, `eos_token_id` and `pad_token_id`; see `corrupt_spans`.

    Raises:
        MetroFastError: If an id is neither given nor found in the tokenizer, or a value is outside
            its domain.
        TypeError: If a keyword is unknown.

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
        corruption: SpanCorruption | None = None,
        vocabulary: Vocabulary | None = None,
        max_length: int | None = None,
        input_length: int | None = None,
        target_length: int | None = None,
        seed: int = 0,
        pad_to_multiple_of: int | None = None,
        num_threads: int | None = None,
        model_inputs_only: bool = False,
        **keywords: Unpack[SpanKeywords],
    ) -> None:
        super().__init__(
            seed=seed,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            num_threads=num_threads,
            model_inputs_only=model_inputs_only,
        )
        if vocabulary is None:
            vocabulary = span_vocabulary(
                tokenizer,
                sentinel_first=keywords.get("sentinel_first"),
                eos_token_id=keywords.get("eos_token_id"),
                pad_token_id=keywords.get("pad_token_id"),
            )
        given: Any = {name: value for name, value in keywords.items() if value is not None}
        self.corruption, self.vocabulary = span_settings(
            corruption, vocabulary, given, type(self).__name__
        )
        self.input_length = self._fixed("input_length", input_length)
        self.target_length = self._fixed("target_length", target_length)
        if input_length is not None:
            self.corruption = replace(self.corruption, max_input_length=input_length)
        if target_length is not None:
            self.corruption = replace(self.corruption, max_target_length=target_length)
        self._native = self._make_options()

    def _make_options(self) -> _core.SpanOptions:
        return _core.SpanOptions(self.corruption, self.vocabulary)

    def _settings(self) -> dict[str, object]:
        return {"corruption": self.corruption, "vocabulary": self.vocabulary}

    def _fixed(self, name: str, length: int | None) -> int | None:
        if length is not None and check_counter(name, length) < 2:
            raise MetroFastError(f"{name} is {length}, expected 2 or more, or None")
        if length is not None and self._width(length) != length:
            raise MetroFastError(
                f"{name} is {length}, expected a multiple of pad_to_multiple_of "
                f"{self.pad_to_multiple_of}"
            )
        return length

    @property
    def _end_token_id(self) -> int | None:
        end = self.vocabulary.eos_token_id
        return self.vocabulary.target_end_token_id if end is None else end

    def _phases(self, rows: Rows) -> Any:
        """The phase of training of every row, which weights the denoisers; None if there is one."""
        return None

    def _corrupt(self, rows: Rows, epoch: int) -> dict[str, Any]:
        decoder = self.vocabulary.decoder_start_token_id is not None
        widths = (self.input_length, self.target_length)
        tokens = TokenRows.read(rows.ids, rows.offsets, rows.sample_ids, phases=self._phases(rows))
        outputs = Outputs.read(
            None, "int64", {}, True, decoder, widths, self.pad_to_multiple_of or 1
        )
        draw = Draw.read(self.seed, epoch, self.num_threads, rows.ids.size, GRAIN)
        arrays = corrupt_rows(self._native, tokens, outputs, draw)
        batch: SpanBatch[Ids] = finish(SpanBatch, arrays, tensor=False)
        columns = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "labels": batch.labels,
            "denoisers": batch.denoisers,
            "num_labels": int(batch.label_lengths.sum()),
            "num_encoder_tokens": int(batch.input_lengths.sum()),
        }
        if decoder:
            columns["decoder_input_ids"] = batch.decoder_input_ids
        return columns
