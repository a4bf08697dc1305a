"""References of the kinds of noise: runs of kept and noise tokens, in Python integers."""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from math import floor

from metro_fast.ops import Denoiser
from metro_fast.testing.philox import below, choose

Runs = tuple[list[int], list[int]]
"""Alternating kept runs and noise runs; there is one more kept run than noise runs."""


def billionths(value: float) -> Fraction:
    """The nearest number of billionths."""
    return Fraction(round(value * 10**9), 10**9)


def span_counts(length: int, density: float, mean: float, compat: str = "t5") -> tuple[int, int]:
    """Numbers of noise tokens and noise spans in a row, exactly rounded half to even.

    Example:
        >>> span_counts(568, 0.15, 3.0)
        (85, 28)
    """
    noise = noise_count(length, density)
    if noise == 0:
        return 0, 0
    fewer = min(noise, length - noise)
    spans = round((noise if compat == "t5" else fewer) / billionths(mean))
    return noise, min(max(spans, 1), fewer)


def noise_count(length: int, density: float) -> int:
    """Number of noise tokens in a row. If there is noise, at least one token is kept."""
    if length < 2 or billionths(density) == 0:
        return 0
    return min(max(round(length * billionths(density)), 1), length - 1)


def compose(source: Iterator[int], total: int, parts: int) -> list[int]:
    """Lengths of `parts` non-empty parts of `total`."""
    if parts == 0:
        return []
    breakpoints = [0, *(b + 1 for b in choose(source, parts - 1, total - 1)), total]
    return [end - start for start, end in pairwise(breakpoints)]


def from_mask(mask: Sequence[bool]) -> Runs:
    """The runs of a mask."""
    keep, noise = [0], list[int]()
    previous = False
    for hidden in mask:
        if hidden and not previous:
            noise.append(0)
            keep.append(0)
        if hidden:
            noise[-1] += 1
        else:
            keep[-1] += 1
        previous = hidden
    return keep, noise


def to_mask(runs: Runs) -> list[bool]:
    """The mask of runs."""
    keep, noise = runs
    mask = [False] * keep[0]
    for hidden, kept in zip(noise, keep[1:], strict=True):
        mask += [True] * hidden + [False] * kept
    return mask


def table_draw(word: int, table: Sequence[float], first: int) -> int:
    """The length among `first`, `first + 1`, ... that a word encodes."""
    last = max(i for i, p in enumerate(table) if p > 0)
    ends = [int(end * 2**32) for end in accumulate(p / sum(table) for p in table[: last + 1])]
    ends[last] = 2**32
    return first + bisect_right(ends, word)


def draw_runs(
    law: Denoiser,
    source: Iterator[int],
    length: int,
    special: Collection[int] = (),
    most: int = 2**31,
) -> Runs:
    """The runs of a row of `length` tokens, of which those at `special` are never noise.

    Args:
        law: The denoiser.
        source: The random words of the row.
        length: Number of tokens (or words) in the row.
        special: Positions of special tokens.
        most: Largest number of spans.
    """
    density = billionths(law.noise_density)
    if law.noise == "metro_t0":
        runs = metro_t0_runs(law, source, length, special)
    else:
        runs = _plain_runs(law, source, length, density, most)
        if special:
            mask = to_mask(runs)
            runs = from_mask([hidden and i not in special for i, hidden in enumerate(mask)])
    keep, noise = runs
    if len(noise) > most:
        rest = sum(keep[most:]) + sum(noise[most:])
        keep, noise = [*keep[:most], rest], noise[:most]
    return keep, noise


def _plain_runs(
    law: Denoiser, source: Iterator[int], length: int, density: Fraction, most: int
) -> Runs:
    if law.noise == "random_spans":
        counts = span_counts(length, law.noise_density, law.mean_noise_span_length, law.compat)
        spans = min(counts[1], most)
        if spans == 0:
            return [length], []
        noise = compose(source, counts[0], spans)
        return [*compose(source, length - counts[0], spans), 0], noise
    if law.noise == "iid":
        threshold = int(density * 2**32)
        return from_mask([next(source) < threshold for _ in range(length)])
    if law.noise == "regular_spans":
        shortest, longest = law.span_length_range
        span = shortest + below(source, longest - shortest + 1)
        period = round(span / density)
        offset = below(source, period)
        return from_mask([(i + offset) % period < span for i in range(length)])
    if law.noise == "prefix":
        if length < 2:
            return [length], []
        fewest = min(length - 1, max(1, round((1 - 2 * density) * (length - 1))))
        kept = fewest + below(source, length - fewest)
        return [kept, 0], [length - kept]
    assert law.noise == "sampled_spans"
    assert law.span_lengths is not None
    total = left = noise_count(length, law.noise_density)
    kept = length - total
    most = min(most, kept + 1)
    lengths: list[int] = []
    while left > 0:
        span = min(table_draw(next(source), law.span_lengths, 1), left)
        lengths.append(left if len(lengths) + 1 == most else span)
        left -= lengths[-1]
    if not lengths:
        return [length], []
    places = below(source, len(lengths))
    lengths = lengths[places:] + lengths[:places]
    gaps = [0, *choose(source, len(lengths), kept + 1), kept]
    return [end - start for start, end in pairwise(gaps)], lengths


def metro_t0_runs(
    law: Denoiser, source: Iterator[int], length: int, special: Collection[int] = ()
) -> Runs:
    """`generate_masks` of gonglinyuan/metro_t0, with our random words in place of numpy's."""
    mask, empty = metro_t0_mask(law, source, length, special)
    return metro_t0_layout(mask, empty)


def metro_t0_mask(
    law: Denoiser, source: Iterator[int], length: int, special: Collection[int] = ()
) -> tuple[list[bool], list[int]]:
    """The mask and the positions of the empty spans."""
    p, q, m = float(billionths(law.noise_density)), law.empty_probability, law.max_span_length

    def uniform() -> float:
        return next(source) / 2**32

    count = min(floor(p * (1 - q) * length / ((1 + m) / 2) + uniform()), length)
    growing = choose(source, count, length)
    mask = [False] * length
    for position in growing:
        mask[position] = True
    for step in range(m - 1):
        count = min(floor(count * (1 - 1 / (m - step)) + uniform()), len(growing))
        grown = [growing[i] + 1 for i in choose(source, count, len(growing))]
        growing = [i % length for i in grown if law.upstream or i < length]
        for position in growing:
            mask[position] = True
    for position in special:
        mask[position] = False
    if q == 0:
        return mask, []
    missing = max(0, floor(p * length - sum(mask) + uniform()))
    wanted = min(missing, floor(p * length * q + 1))
    free = [i for i in range(length) if not any(mask[max(i - 1, 0) : i + 2])]
    return mask, [free[i] for i in choose(source, min(wanted, len(free)), len(free))]


def metro_t0_layout(mask: Sequence[bool], empty: Collection[int]) -> Runs:
    """Runs with an empty span before each position of `empty`."""
    keep, noise = [0], list[int]()
    for position, hidden in enumerate(mask):
        starts = hidden and not (position > 0 and mask[position - 1])
        if starts or position in empty:
            noise.append(0)
            keep.append(0)
        if hidden:
            noise[-1] += 1
        else:
            keep[-1] += 1
    return keep, noise
