"""Reference of `metro_fast.ops.corrupt_spans`, and the exact law of its masks."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import comb

import numpy as np
import numpy.typing as npt

from metro_fast.testing.philox import Stream, choose, make_key, words


def span_counts(length: int, density: float, mean: float) -> tuple[int, int]:
    """Noise tokens and noise spans of a row: T5's rule in f32, half to even."""
    if length < 2 or np.float32(density) == 0:
        return 0, 0
    rounded = int(np.round(np.float32(length) * np.float32(density)))
    noise = min(max(rounded, 1), length - 1)
    wanted = int(np.round(np.float32(noise) / np.float32(mean)))
    return noise, min(max(wanted, 1), noise, length - noise)


def compose(source: Iterator[int], total: int, parts: int) -> list[int]:
    """Lengths of `parts` non-empty parts of `total`."""
    if parts == 0:
        return []
    breakpoints = [0, *(b + 1 for b in choose(source, parts - 1, total - 1)), total]
    return [end - start for start, end in pairwise(breakpoints)]


def corrupt_row(
    ids: Sequence[int],
    sample_id: int,
    *,
    noise_density: float = 0.15,
    mean_noise_span_length: float = 3.0,
    sentinel_first: int = 32099,
    sentinel_step: int = -1,
    eos_token_id: int = 1,
    seed: int = 0,
    epoch: int = 0,
) -> tuple[list[int], list[int]]:
    """Inputs and labels of one row, unpadded.

    Example:
        >>> corrupt_row(range(10, 22), 0, noise_density=0.25)[1]
        [32099, 19, 20, 21, 1]
    """
    ids = list(ids)
    noise, spans = span_counts(len(ids), noise_density, mean_noise_span_length)
    source = words(make_key(seed, epoch, Stream.SPANS), sample_id, 0)
    noise_lengths = compose(source, noise, spans)
    keep_lengths = compose(source, len(ids) - noise, spans)
    inputs: list[int] = []
    labels: list[int] = []
    at = 0
    for index, (keep, hide) in enumerate(zip(keep_lengths, noise_lengths, strict=True)):
        sentinel = sentinel_first + sentinel_step * index
        inputs += [*ids[at : at + keep], sentinel]
        labels += [sentinel, *ids[at + keep : at + keep + hide]]
        at += keep + hide
    if spans == 0:
        inputs, labels = ids, [sentinel_first]
    return [*inputs, eos_token_id], [*labels, eos_token_id]


def restore_row(
    inputs: Sequence[int], labels: Sequence[int], sentinels: Sequence[int], eos_token_id: int = 1
) -> list[int]:
    """The row that inputs and labels came from.

    Args:
        inputs: One unpadded row of `input_ids`.
        labels: Its unpadded row of `labels`.
        sentinels: All sentinels, in their order.
        eos_token_id: The id that ends both.

    Example:
        >>> restore_row([5, 99, 8, 98, 1], [99, 6, 7, 98, 9, 1], [99, 98])
        [5, 6, 7, 8, 9]
    """
    assert inputs[-1] == labels[-1] == eos_token_id
    hidden: dict[int, list[int]] = {}
    for token in labels[:-1]:
        if token in sentinels and token not in hidden:
            assert token == sentinels[len(hidden)]
            hidden[token] = []
        else:
            hidden[sentinels[len(hidden) - 1]].append(token)
    row: list[int] = []
    for token in inputs[:-1]:
        row += hidden.pop(token) if token in hidden else [token]
    assert all(not rest for rest in hidden.values()), "a span of the labels is not in the inputs"
    return row


def noise_probabilities(length: int, noise: int, spans: int) -> npt.NDArray[np.float64]:
    """The exact probability that each position is noise, float64 [length].

    P(i is noise) = sum over k of P(start_k <= i) - P(end_k <= i), where the start of span k is a
    sum of k keep parts and k - 1 noise parts, its end of k and k; and the first k of s parts of n
    sum to a with probability C(a-1, k-1) C(n-a-1, s-k-1) / C(n-1, s-1).
    """

    def first_parts(k: int, n: int) -> npt.NDArray[np.float64]:
        law = np.zeros(n + 1)
        if k in (0, spans):
            law[0 if k == 0 else n] = 1.0
            return law
        for a in range(k, n - spans + k + 1):
            ways = comb(a - 1, k - 1) * comb(n - a - 1, spans - k - 1)
            law[a] = ways / comb(n - 1, spans - 1)
        return law

    noisy = np.zeros(length)
    for k in range(1, spans + 1):
        kept = first_parts(k, length - noise)
        start = np.convolve(kept, first_parts(k - 1, noise))
        end = np.convolve(kept, first_parts(k, noise))
        noisy += (np.cumsum(start) - np.cumsum(end))[:length]
    return noisy
