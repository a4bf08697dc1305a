"""Rows without what a tokenizer puts around them: padding, and the end of the text."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from metro_fast.data.columns import Tokens, read_tokens
from metro_fast.errors import MetroFastError
from metro_fast.ops import Vocabulary
from metro_fast.ops.token_rows import TextRanges

_Numbers = npt.NDArray[np.int64]


def without_padding(tokens: Tokens, columns: Mapping[str, Any], vocabulary: Vocabulary) -> Tokens:
    """The rows without the tokens that `attention_mask` marks as padding.

    Args:
        tokens: Token ids.
        columns: The columns of the batch, of which `attention_mask`, `token_type_ids`, `labels` and
            `decoder_input_ids` are read, if it has them.
        vocabulary: Has the id of padding, with which rows without a mask must neither start nor
            end, and that of the end of a text, which may be the same.

    Raises:
        MetroFastError: If a mask does not fit the rows or has holes, a row is all padding, a row
            without a mask seems to be padded, the rows have labels of their own, or their token
            types are those of two texts.
        TypeError: If a column does not hold numbers.
    """
    rows = tokens
    mask = None
    if "attention_mask" in columns:
        mask = _aligned("attention_mask", columns["attention_mask"], tokens).flat
        rows = tokens.narrow(*_attended(mask, tokens.bounds))
    else:
        _refuse_padding(tokens, vocabulary.pad_token_id, vocabulary.eos_token_id)
    _refuse_labels(tokens, columns, mask)
    if "token_type_ids" in columns:
        types = _aligned("token_type_ids", columns["token_type_ids"], tokens).flat
        _refuse_second_text(types if mask is None else np.where(mask != 0, types, 0), tokens.bounds)
    return rows


def without_end(tokens: Tokens, end_token_id: int) -> Tokens:
    """The rows without the ids that end their texts; a row of nothing else keeps one."""
    bounds, flat = tokens.bounds, tokens.flat
    starts = bounds[:-1]
    return tokens.narrow(
        starts, _before_end(lambda ends: flat[ends - 1], starts, bounds[1:], end_token_id)
    )


def ranges_without_end(ranges: TextRanges, end_token_id: int) -> TextRanges:
    """The same for ranges of the text of a corpus."""

    def last_ids(ends: _Numbers) -> npt.NDArray[Any]:
        ids: npt.NDArray[Any] = ranges.files.gather(ends - 1, ends)
        return ids

    return ranges._replace(ends=_before_end(last_ids, ranges.starts, ranges.ends, end_token_id))


def refuse_padded_ranges(ranges: TextRanges, vocabulary: Vocabulary) -> None:
    """Refuse rows of a corpus that start or end with the pad id: its documents were padded.

    Where padding is the id that ends texts, the id is between any two documents.

    Raises:
        MetroFastError: If there is such a row; the message names it.
    """
    pad = vocabulary.pad_token_id
    if pad == vocabulary.eos_token_id:
        return
    starts, ends = ranges.starts, ranges.ends
    for side, places in (("starts", starts), ("ends", ends - 1)):
        padded = ranges.files.gather(places, places + 1) == pad
        if padded.any():
            raise MetroFastError(
                f"row {int(np.flatnonzero(padded)[0])} of the batch {side} with the pad id {pad}, "
                "and a corpus has no attention_mask that says what is padding: make the corpus "
                "from rows without padding, or give another pad_token_id if the id is one of the "
                "text"
            )


def _before_end(
    last_ids: Callable[[_Numbers], npt.NDArray[Any]],
    starts: _Numbers,
    ends: _Numbers,
    end_token_id: int,
) -> _Numbers:
    while True:
        over = (last_ids(ends) == end_token_id) & (ends - starts > 1)
        if not over.any():
            return ends
        ends = ends - over


def _aligned(name: str, column: Any, tokens: Tokens) -> Tokens:
    """A column that has one value for each token.

    Raises:
        MetroFastError: If it has other rows.
    """
    found = read_tokens(name, column)
    ours, theirs = np.diff(tokens.bounds), np.diff(found.bounds)
    if len(ours) != len(theirs):
        raise MetroFastError(f"{name} has {len(theirs)} rows for {len(ours)} rows of input_ids")
    if (ours != theirs).any():
        row = int(np.flatnonzero(ours != theirs)[0])
        raise MetroFastError(
            f"{name} of row {row} has {theirs[row]} values for {ours[row]} tokens, expected one "
            "for each: give it as the tokenizer made it"
        )
    return found


def _attended(mask: npt.NDArray[Any], bounds: _Numbers) -> tuple[_Numbers, _Numbers]:
    """The starts and ends of the tokens of every row in the flat values.

    Raises:
        MetroFastError: If a value is neither 0 nor 1, a row has no 1, or a 0 between its ones.
    """
    ones = mask == 1
    if ones.all():
        return bounds[:-1], bounds[1:]

    def row_of(place: int) -> int:
        return int(np.searchsorted(bounds, place, side="right")) - 1

    if not (ones | (mask == 0)).all():
        place = int(np.flatnonzero(~ones & (mask != 0))[0])
        raise MetroFastError(
            f"attention_mask of row {row_of(place)} holds {mask[place]}, expected 1 for a token "
            "and 0 for padding"
        )
    places = np.flatnonzero(ones)
    before = np.searchsorted(places, bounds)
    counts = np.diff(before)
    if (counts == 0).any():
        row = int(np.flatnonzero(counts == 0)[0])
        raise MetroFastError(
            f"attention_mask of row {row} is 0 everywhere, expected at least one token: leave out "
            "rows that are empty"
        )
    starts, ends = places[before[:-1]], places[before[1:] - 1] + 1
    holes = ends - starts != counts
    if holes.any():
        raise MetroFastError(
            f"attention_mask of row {int(np.flatnonzero(holes)[0])} has a 0 between ones, expected "
            "padding before or after the tokens alone: take those tokens out of the row"
        )
    return starts, ends


def _refuse_padding(tokens: Tokens, pad_token_id: int, eos_token_id: int | None) -> None:
    """Refuse rows that have no mask and yet start or end with the pad id.

    Where the id that ends texts is also that of padding, one of them is not padding.
    """
    bounds, flat = tokens.bounds, tokens.flat
    depth = 2 if pad_token_id == eos_token_id else 1
    long = np.diff(bounds) >= depth
    for side, place, step in (("starts", bounds[:-1], 1), ("ends", bounds[1:] - 1, -1)):
        padded = long.copy()
        for distance in range(depth):
            padded &= flat[np.where(long, place + step * distance, place)] == pad_token_id
        if padded.any():
            raise MetroFastError(
                f"row {int(np.flatnonzero(padded)[0])} of the batch {side} with the pad id "
                f"{pad_token_id}, and there is no attention_mask that says what is padding: give "
                "the attention_mask of the tokenizer (1 for every token if the id is one of the "
                "text), or rows without padding"
            )


def _refuse_labels(
    tokens: Tokens, columns: Mapping[str, Any], mask: npt.NDArray[Any] | None
) -> None:
    """Refuse labels, which collators make themselves, unless they only repeat the ids."""
    for name in ("labels", "decoder_input_ids"):
        if name not in columns:
            continue
        if name == "labels" and _repeats(tokens, columns[name], mask):
            continue
        raise MetroFastError(
            f"the rows have {name}, but this collator makes the targets from input_ids: remove the "
            f"column {name}, or collate pairs of input and target with "
            "transformers.DataCollatorForSeq2Seq"
        )


def _repeats(tokens: Tokens, column: Any, mask: npt.NDArray[Any] | None) -> bool:
    """Whether the column of labels is a copy of the ids, as for a language model."""
    try:
        labels = read_tokens("labels", column)
    except (MetroFastError, TypeError):
        return False
    if not np.array_equal(labels.bounds, tokens.bounds):
        return False
    same = labels.flat == tokens.flat
    return bool((same if mask is None else same | (mask == 0)).all())


def _refuse_second_text(types: npt.NDArray[Any], bounds: _Numbers) -> None:
    """Refuse the token types of pairs of texts, which a batch cannot keep."""
    if types.any():
        row = int(np.searchsorted(bounds, np.flatnonzero(types)[0], side="right")) - 1
        raise MetroFastError(
            f"token_type_ids of row {row} marks a second text, but a batch has no token types: "
            "tokenize one text per row, or remove the column token_type_ids"
        )
