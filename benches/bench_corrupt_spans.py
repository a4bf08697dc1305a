"""corrupt_spans, 512 rows of 568 uint16 ids, against numpy and the memory copy of its output."""

import numpy as np
import pytest

from metro_fast.ops import corrupt_spans
from metro_fast.testing.corrupt_spans import corrupt_row, span_counts

ROWS, LENGTH = 512, 568
IDS = np.random.default_rng(0).integers(2, 31_000, (ROWS, LENGTH)).astype(np.uint16)


@pytest.fixture
def out():
    batch = corrupt_spans(IDS)
    return batch.input_ids, batch.labels


@pytest.mark.benchmark(group="corrupt_spans 512 x 568")
@pytest.mark.parametrize("threads", [1, 2])
def test_ours(benchmark, out, threads):
    benchmark(corrupt_spans, IDS, out=out, num_threads=threads)


@pytest.mark.benchmark(group="corrupt_spans 512 x 568")
def test_copy_of_the_output(benchmark, out):
    """The limit: nobody can be faster than writing the result."""
    into = [np.empty_like(array) for array in out]

    def copy():
        for target, source in zip(into, out, strict=True):
            np.copyto(target, source)

    benchmark(copy)


@pytest.mark.benchmark(group="corrupt_spans 512 x 568")
def test_numpy_rows(benchmark):
    """A row at a time in numpy, as the public collators do it."""
    random = np.random.default_rng(0)
    noise, spans = span_counts(LENGTH, 0.15, 3.0)

    def segment(total):
        starts = np.zeros(total - 1, np.int64)
        starts[: spans - 1] = 1
        random.shuffle(starts)
        return np.bincount(np.concatenate([[0], np.cumsum(starts)]), minlength=spans)

    def side(ids, hidden):
        starts = hidden & ~np.concatenate([[False], hidden[:-1]])
        sentinels = 32_100 - np.cumsum(starts)
        return np.concatenate([np.where(starts, sentinels, ids)[~hidden | starts], [1]])

    def batch():
        inputs, labels = [], []
        for row in IDS:
            lengths = np.stack([segment(LENGTH - noise), segment(noise)], 1).reshape(-1)
            hidden = np.repeat(np.arange(2 * spans) % 2 == 1, lengths)
            inputs.append(side(row, hidden))
            labels.append(side(row, ~hidden))
        return np.stack(inputs), np.stack(labels)

    inputs, labels = benchmark(batch)
    assert (inputs.shape, labels.shape) == ((ROWS, 512), (ROWS, 114))


@pytest.mark.benchmark(group="corrupt_spans 512 x 568")
def test_numpy_whole_batch(benchmark):
    """What numpy can do at best: the whole batch by argpartition and boolean indexing."""
    random = np.random.default_rng(0)
    noise, spans = span_counts(LENGTH, 0.15, 3.0)

    def segment(total):
        chosen = np.argpartition(random.random((ROWS, total - 1), np.float32), spans - 2, 1)
        ends = np.sort(chosen[:, : spans - 1], 1) + 1
        edge = np.full((ROWS, 1), total)
        return np.diff(np.concatenate([edge * 0, ends, edge], 1), axis=1)

    def side(hidden, width):
        starts = hidden.copy()
        starts[:, 1:] &= ~hidden[:, :-1]
        sentinels = 32_100 - np.cumsum(starts, 1)
        kept = np.where(starts, sentinels, IDS)[~hidden | starts].reshape(ROWS, width - 1)
        return np.concatenate([kept, np.ones((ROWS, 1), np.int64)], 1)

    def batch():
        lengths = np.stack([segment(LENGTH - noise), segment(noise)], 2).reshape(-1)
        parity = np.tile(np.arange(2 * spans) % 2 == 1, ROWS)
        hidden = np.repeat(parity, lengths).reshape(ROWS, LENGTH)
        return side(hidden, LENGTH - noise + spans + 1), side(~hidden, noise + spans + 1)

    inputs, labels = benchmark(batch)
    assert (inputs.shape, labels.shape) == ((ROWS, 512), (ROWS, 114))


@pytest.mark.benchmark(group="corrupt_spans 512 x 568")
def test_reference(benchmark):
    """The obvious Python of metro_fast.testing, 8 rows."""
    rows = IDS[:8].tolist()
    benchmark(lambda: [corrupt_row(row, name) for name, row in enumerate(rows)])
    benchmark.extra_info["rows"] = 8
