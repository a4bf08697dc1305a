"""Reference of `metro_fast.ops.mask_tokens`."""

from collections.abc import Collection, Sequence
from math import floor

from metro_fast.testing.philox import Stream, below, choose, make_key, words


def mask_row(
    ids: Sequence[int],
    sample_id: int,
    *,
    mask_token_id: int,
    vocab_size: int,
    mlm_probability: float = 0.15,
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
    eligible = [i for i, token in enumerate(ids) if token not in special_token_ids]
    key = make_key(seed, epoch, Stream.MASK)
    source = words(key, sample_id, 0)
    uniform = next(source) / 2**32
    count = min(floor(mlm_probability * len(eligible) + uniform), len(eligible))
    positions = [eligible[i] for i in choose(source, count, len(eligible))]
    masked = list(ids)
    for position in positions:
        source = words(key, sample_id, position + 1)
        kind = next(source)
        if kind < int(mask_replace_prob * 2**32):
            masked[position] = mask_token_id
        elif kind < int((mask_replace_prob + random_replace_prob) * 2**32):
            masked[position] = ordinary[below(source, len(ordinary))]
    return masked, positions
