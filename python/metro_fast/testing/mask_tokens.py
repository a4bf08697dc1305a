"""Reference of `metro_fast.ops.mask_tokens`."""

from collections.abc import Collection, Sequence
from math import floor

from metro_fast.testing.noise_laws import table_draw
from metro_fast.testing.philox import Stream, below, choose, make_key, words


def mask_row(
    ids: Sequence[int],
    sample_id: int,
    *,
    mask_token_id: int,
    vocab_size: int,
    count: str = "metro",
    mlm_probability: float = 0.15,
    max_masked: int | None = None,
    span_table: Sequence[float] | None = None,
    mask_span_length: int = 1,
    word_starts: Sequence[bool] | None = None,
    mask_replace_prob: float = 0.8,
    random_replace_prob: float = 0.1,
    special_token_ids: Collection[int] = (),
    random_token_range: tuple[int, int] | None = None,
    seed: int = 0,
    epoch: int = 0,
) -> tuple[list[int], list[int]]:
    """Input and masked positions of one row.

    Example:
        >>> mask_row([7, 8], 0, mask_token_id=3, vocab_size=9, mlm_probability=1.0)[1]
        [0, 1]
    """
    start, end = random_token_range or (0, vocab_size)
    ordinary = [i for i in range(start, end) if i not in special_token_ids]
    key = make_key(seed, epoch, Stream.MASK)
    source = words(key, sample_id, 0)
    uniform = next(source) / 2**32
    starts = [
        i for i, t in enumerate(ids) if i == 0 or word_starts is None or _starts(word_starts, t)
    ]
    pieces = [range(a, b) for a, b in zip(starts, [*starts[1:], len(ids)], strict=True)]
    free = [piece for piece in pieces if not any(ids[i] in special_token_ids for i in piece)]
    if count == "metro":
        number = floor(mlm_probability * len(free) / mask_span_length + uniform)
    else:
        number = max(1, round(mlm_probability * len(ids)))
    number = number if max_masked is None else min(number, max_masked)
    if count == "metro":
        drawn = choose(source, min(number, len(free)), len(free))
    else:
        drawn = sorted({below(source, len(free)) for _ in range(number)} if free else [])
    positions = [i for piece in drawn for i in free[piece]]
    if span_table is not None:
        spans = [range(i, i + table_draw(next(source), span_table, 0)) for i in positions]
        reached = {i for span in spans for i in span if i < len(ids)}
        positions = sorted(i for i in reached if ids[i] not in special_token_ids)
    masked = list(ids)
    kinds = words(make_key(seed, epoch, Stream.KIND), sample_id, 0)
    for position, kind in zip(positions, kinds, strict=False):
        if kind < int(mask_replace_prob * 2**32):
            masked[position] = mask_token_id
        elif kind < int((mask_replace_prob + random_replace_prob) * 2**32):
            masked[position] = ordinary[below(words(key, sample_id, position + 1), len(ordinary))]
    return masked, positions


def _starts(table: Sequence[bool], token: int) -> bool:
    return token >= len(table) or table[token]
