"""Reference of `metro_fast.ops.mask_tokens`."""

from collections.abc import Sequence
from math import floor
from typing import Unpack

from metro_fast.ops import Masking, Vocabulary
from metro_fast.ops.masking import MaskKeywords, mask_settings
from metro_fast.testing.corrupt_spans import word_starts
from metro_fast.testing.noise_laws import table_draw
from metro_fast.testing.philox import Stream, below, choose, make_key, words


def mask_row(
    ids: Sequence[int],
    sample_id: int,
    *,
    masking: Masking | None = None,
    vocabulary: Vocabulary | None = None,
    span_table: Sequence[float] | None = None,
    seed: int = 0,
    epoch: int = 0,
    **keywords: Unpack[MaskKeywords],
) -> tuple[list[int], list[int]]:
    """Input and masked positions of one row.

    `span_table` holds the probabilities of spans of 0, 1, 2, ... tokens, computed independently of
    those in `masking`.

    Example:
        >>> mask_row([7, 8], 0, mask_token_id=3, vocab_size=9, mlm_probability=1.0)[1]
        [0, 1]
    """
    masking, vocabulary = mask_settings(masking, vocabulary, keywords)
    mask_token, size = vocabulary.mask_token_id, vocabulary.vocab_size
    assert mask_token is not None
    assert size is not None
    special = set(vocabulary.special_token_ids)
    ordinary = [i for i in range(*(masking.random_token_range or (0, size))) if i not in special]
    key = make_key(seed, epoch, Stream.MASK)
    source = words(key, sample_id, 0)
    uniform = next(source) / 2**32
    starts = word_starts(ids, vocabulary)
    pieces = [range(a, b) for a, b in zip(starts, [*starts[1:], len(ids)], strict=True)]
    free = [piece for piece in pieces if not any(ids[i] in special for i in piece)]
    probability, most = masking.mlm_probability, masking.max_masked
    if masking.count == "metro":
        number = floor(probability * len(free) / masking.mask_span_length + uniform)
    else:
        number = max(1, round(probability * len(pieces)))
    number = number if most is None else min(number, most)
    if masking.count == "metro":
        drawn = choose(source, min(number, len(free)), len(free))
    else:
        drawn = sorted({below(source, len(free)) for _ in range(number)} if free else [])
    positions = [i for piece in drawn for i in free[piece]]
    if span_table is not None:
        spans = [range(i, i + table_draw(next(source), span_table, 0)) for i in positions]
        reached = {i for span in spans for i in span if i < len(ids)}
        positions = sorted(i for i in reached if ids[i] not in special)
    masked = list(ids)
    kinds = words(make_key(seed, epoch, Stream.KIND), sample_id, 0)
    replaced = masking.mask_replace_prob
    for position, kind in zip(positions, kinds, strict=False):
        if kind < int(replaced * 2**32):
            masked[position] = mask_token
        elif kind < int((replaced + masking.random_replace_prob) * 2**32):
            masked[position] = ordinary[below(words(key, sample_id, position + 1), len(ordinary))]
    return masked, positions
