"""Reference of `metro_fast.ops.corrupt_spans`, and the exact probabilities of T5's masks."""

from collections.abc import Collection, Iterator, Sequence
from math import comb
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from metro_fast.ops import Denoiser, SpanCorruption, Vocabulary
from metro_fast.ops.denoiser import as_denoisers
from metro_fast.ops.span_corruption import SpanKeywords, span_settings
from metro_fast.testing.noise_laws import Runs, draw_runs, from_mask, metro_t0_layout
from metro_fast.testing.philox import Stream, make_key, words


def corrupt_row(
    ids: Sequence[int],
    sample_id: int,
    *,
    noise_mask: Sequence[bool] | None = None,
    corruption: SpanCorruption | None = None,
    vocabulary: Vocabulary | None = None,
    seed: int = 0,
    epoch: int = 0,
    **keywords: Unpack[SpanKeywords],
) -> tuple[list[int], list[int]]:
    """Inputs and labels of one row, unpadded.

    Example:
        >>> corrupt_row(range(10, 22), 0, noise_density=0.25)[1]
        [32099, 19, 20, 21, 1]
    """
    ids = list(ids)
    corruption, vocabulary = span_settings(corruption, vocabulary, keywords)
    sentinels = vocabulary.num_sentinels
    tasks = as_denoisers(corruption.denoisers)
    task = tasks[choose_denoiser([t.weight for t in tasks], sample_id, seed, epoch)]
    numbered = "unique_sentinels" in (task.inputs, task.targets)
    most = sentinels if numbered and corruption.on_sentinel_shortage == "clamp" else 2**31
    if noise_mask is not None:
        runs = from_mask(noise_mask)
        if len(runs[1]) > most:
            rest = sum(runs[0][most:]) + sum(runs[1][most:])
            runs = [*runs[0][:most], rest], runs[1][:most]
    else:
        source = words(make_key(seed, epoch, Stream.SPANS), sample_id, 0)
        runs = _token_runs(task, source, ids, vocabulary, most)
    assert not numbered or len(runs[1]) <= sentinels, "more spans than sentinels"
    inputs = write_inputs(task, ids, runs, vocabulary.sentinel_first, vocabulary.sentinel_step)
    labels = write_targets(task, ids, runs, vocabulary.sentinel_first, vocabulary.sentinel_step)
    end, target_end = vocabulary.eos_token_id, vocabulary.target_end_token_id
    return (
        _cut(inputs, end, corruption.max_input_length),
        _cut(labels, end if target_end is None else target_end, corruption.max_target_length),
    )


def choose_denoiser(weights: Sequence[float], sample_id: int, seed: int, epoch: int) -> int:
    """The index of the denoiser of a row."""
    if len(weights) == 1:
        return 0
    word = next(words(make_key(seed, epoch, Stream.MIXTURE), sample_id, 0))
    last = max(i for i, weight in enumerate(weights) if weight > 0)
    before = 0.0
    for index, weight in enumerate(weights):
        before += weight / sum(weights)
        if index >= last or word < int(before * 2**32):
            return index
    raise AssertionError


def _token_runs(
    task: Denoiser, source: Iterator[int], ids: Sequence[int], vocabulary: Vocabulary, most: int
) -> Runs:
    starts = word_starts(ids, vocabulary)
    ends = [*starts[1:], len(ids)]
    pieces = list(zip(starts, ends, strict=True))
    special_ids = set(vocabulary.special_token_ids)
    special = [word for word, (a, b) in enumerate(pieces) if special_ids & set(ids[a:b])]
    keep, noise = draw_runs(task, source, len(pieces), special, most)
    sizes = [end - start for start, end in pieces]

    def tokens(count: int) -> int:
        taken, sizes[:count] = sum(sizes[:count]), []
        return taken

    in_tokens: Runs = ([], [])
    for kept, hidden in zip(keep, [*noise, 0], strict=True):
        in_tokens[0].append(tokens(kept))
        in_tokens[1].append(tokens(hidden))
    return in_tokens[0], in_tokens[1][:-1]


def word_starts(ids: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    """Where the words of a row start. Without a table, every token is a word."""
    table: Any = vocabulary.word_starts
    return [
        place
        for place, token in enumerate(ids)
        if place == 0 or table is None or token >= len(table) or table[token]
    ]


def write_inputs(
    task: Denoiser, ids: Sequence[int], runs: Runs, sentinel_first: int, sentinel_step: int
) -> list[int]:
    """Inputs without their end."""
    keep, noise = runs
    made = [] if task.prefix_token_id is None else [task.prefix_token_id]
    at = 0
    for index, (kept, hidden) in enumerate(zip(keep, noise, strict=False)):
        made += ids[at : at + kept]
        made += {
            "unique_sentinels": [sentinel_first + sentinel_step * index],
            "one_sentinel": [sentinel_first],
            "sentinel_per_token": [sentinel_first] * hidden,
            "drop": [],
        }[task.inputs]
        at += kept + hidden
    return made + list(ids[at:])


def write_targets(
    task: Denoiser, ids: Sequence[int], runs: Runs, sentinel_first: int, sentinel_step: int
) -> list[int]:
    """Targets without their end."""
    keep, noise = runs
    if task.targets == "whole":
        return list(ids)
    if task.targets == "unique_sentinels" and not noise and task.noise != "metro_t0":
        return [sentinel_first]
    made: list[int] = []
    at = 0
    for index, (kept, hidden) in enumerate(zip(keep, noise, strict=False)):
        at += kept
        if task.targets == "unique_sentinels":
            made.append(sentinel_first + sentinel_step * index)
        made += ids[at : at + hidden]
        at += hidden
    return made


def metro_t0_row(
    ids: Sequence[int],
    mask: Sequence[bool],
    empty: Collection[int],
    first_sentinel: int,
    max_positions: int,
) -> tuple[list[int], list[int]]:
    """Source and target that gonglinyuan/metro_t0 (`fairseq/data/t5_dataset.py`) makes of a mask.

    Its first sentinel ends the target, and spans are numbered from the second. A target is cut
    before its end is appended, so that a long one has `max_positions + 1` ids.

    Example:
        >>> metro_t0_row([5, 6, 7, 8], [False, True, False, False], [3], 90, 512)
        ([5, 91, 7, 92, 8], [91, 6, 92, 90])
    """
    task = Denoiser(noise="metro_t0")
    runs = metro_t0_layout(mask, empty)
    source = write_inputs(task, ids, runs, first_sentinel + 1, 1)
    target = write_targets(task, ids, runs, first_sentinel + 1, 1)
    return source[:max_positions], [*target[:max_positions], first_sentinel]


def _cut(made: list[int], end: int | None, longest: int | None) -> list[int]:
    whole = made if end is None else [*made, end]
    if longest is None or len(whole) <= longest:
        return whole
    return whole[:longest] if end is None else [*whole[: longest - 1], end]


def restore_row(
    inputs: Sequence[int], labels: Sequence[int], sentinels: Sequence[int], eos_token_id: int = 1
) -> list[int]:
    """The row from which inputs and labels were made.

    Args:
        inputs: One unpadded row of `input_ids`.
        labels: Its unpadded row of `labels`.
        sentinels: All sentinels in order.
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

    P(i is noise) = sum over k of P(start_k <= i) - P(end_k <= i), where the start of span k is the
    sum of k kept parts and k - 1 noise parts, and its end is the sum of k and k. The first k of s
    parts of n sum to a with probability C(a-1, k-1) C(n-a-1, s-k-1) / C(n-1, s-1).
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
