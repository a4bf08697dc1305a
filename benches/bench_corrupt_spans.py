"""corrupt_spans, rows of 568 uint16 ids, against peers and the memory copy of its output."""

import numpy as np
import pytest
from peer_collators import metro_t0_masks, nanot5
from run_copies import numba_batch

from metro_fast.ops import Vocabulary, corrupt_spans, ul2_denoisers
from metro_fast.ops.denoiser import metro_t0_baseline
from metro_fast.testing.corrupt_spans import corrupt_row
from metro_fast.testing.noise_laws import span_counts
from metro_fast.testing.numpy_collator import NumpySpanCollator

ROWS, LENGTH = 512, 568
IDS = np.random.default_rng(0).integers(2, 31_000, (2048, LENGTH)).astype(np.uint16)
LEVELS = ["scalar", "avx2", "avx512"]
LAWS = {
    "ul2": {"denoisers": ul2_denoisers()},
    "metro_t0": {
        "denoisers": metro_t0_baseline(),
        "vocabulary": Vocabulary(num_sentinels=512, sentinel_first=32_900),
    },
}


def outputs(rows):
    batch = corrupt_spans(IDS[:rows])
    return batch.input_ids, batch.labels


@pytest.mark.benchmark(group="corrupt_spans 512 x 568")
@pytest.mark.parametrize("level", LEVELS)
def test_ours(benchmark, level, simd):
    simd(level)
    benchmark(corrupt_spans, IDS[:ROWS], out=outputs(ROWS), num_threads=1)


@pytest.mark.benchmark(group="corrupt_spans threads")
@pytest.mark.parametrize("rows", [128, 512, 2048])
@pytest.mark.parametrize("threads", [1, 2, None])
def test_threads(benchmark, rows, threads):
    benchmark(corrupt_spans, IDS[:rows], out=outputs(rows), num_threads=threads)


@pytest.mark.benchmark(group="corrupt_spans 512 x 568")
def test_copy_of_the_output(benchmark):
    """The limit: no method is faster than writing the result."""
    out = outputs(ROWS)
    into = [np.empty_like(array) for array in out]

    def copy():
        for target, source in zip(into, out, strict=True):
            np.copyto(target, source)

    benchmark(copy)


@pytest.mark.benchmark(group="corrupt_spans 512 x 568")
def test_numpy_collator(benchmark):
    """One row at a time, as the public collators do it (metro_fast.testing)."""
    inputs, labels = benchmark(NumpySpanCollator(), IDS[:ROWS])
    assert (inputs.shape, labels.shape) == ((ROWS, 512), (ROWS, 114))


@pytest.mark.benchmark(group="corrupt_spans 512 x 568")
def test_nanot5_collator(benchmark):
    collator, rows = nanot5(IDS[:ROWS])
    batch = benchmark.pedantic(collator, args=(rows,), rounds=7, warmup_rounds=1)
    assert (batch["input_ids"].shape, batch["labels"].shape) == ((ROWS, 512), (ROWS, 114))


@pytest.mark.benchmark(group="corrupt_spans 512 x 568")
def test_numba_run_copies(benchmark):
    """The same algorithm compiled by numba, before the clock starts."""
    batch = numba_batch(*span_counts(LENGTH, 0.15, 3.0))
    inputs, labels = outputs(ROWS)
    batch(IDS[:ROWS], inputs, labels, 0)
    benchmark(batch, IDS[:ROWS], inputs, labels, 1)


@pytest.mark.benchmark(group="corrupt_spans 512 x 568")
def test_numpy_whole_batch(benchmark):
    """The best that numpy can do: the whole batch by argpartition and boolean indexing."""
    random = np.random.default_rng(0)
    noise, spans = span_counts(LENGTH, 0.15, 3.0)
    ids = IDS[:ROWS]

    def segment(total):
        chosen = np.argpartition(random.random((ROWS, total - 1), np.float32), spans - 2, 1)
        ends = np.sort(chosen[:, : spans - 1], 1) + 1
        edge = np.full((ROWS, 1), total)
        return np.diff(np.concatenate([edge * 0, ends, edge], 1), axis=1)

    def side(hidden, width):
        starts = hidden.copy()
        starts[:, 1:] &= ~hidden[:, :-1]
        sentinels = 32_100 - np.cumsum(starts, 1)
        kept = np.where(starts, sentinels, ids)[~hidden | starts].reshape(ROWS, width - 1)
        return np.concatenate([kept, np.ones((ROWS, 1), np.int64)], 1)

    def batch():
        lengths = np.stack([segment(LENGTH - noise), segment(noise)], 2).reshape(-1)
        parity = np.tile(np.arange(2 * spans) % 2 == 1, ROWS)
        hidden = np.repeat(parity, lengths).reshape(ROWS, LENGTH)
        return side(hidden, LENGTH - noise + spans + 1), side(~hidden, noise + spans + 1)

    inputs, labels = benchmark(batch)
    assert (inputs.shape, labels.shape) == ((ROWS, 512), (ROWS, 114))


@pytest.mark.benchmark(group="corrupt_spans 512 x 568, other laws and outputs")
@pytest.mark.parametrize("law", LAWS)
def test_laws(benchmark, law):
    benchmark(corrupt_spans, IDS[:ROWS], num_threads=1, **LAWS[law])


@pytest.mark.benchmark(group="corrupt_spans 512 x 568, other laws and outputs")
def test_metro_t0_masks(benchmark):
    """Upstream's masks alone; its layout takes twice as long in addition."""
    generate = metro_t0_masks()
    benchmark(lambda: [generate(row, 0.15, 0.1, 5) for row in IDS[:ROWS]])


@pytest.mark.benchmark(group="corrupt_spans 512 x 568, other laws and outputs")
@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_with_masks_and_decoder_inputs(benchmark, dtype):
    vocabulary = Vocabulary(decoder_start_token_id=0)
    options = {"attention_mask": True, "vocabulary": vocabulary, "dtype": dtype}
    batch = corrupt_spans(IDS[:ROWS], **options)
    out = (batch.input_ids, batch.labels, batch.attention_mask, batch.decoder_input_ids)
    benchmark(corrupt_spans, IDS[:ROWS], out=out, num_threads=1, **options)


@pytest.mark.benchmark(group="corrupt_spans 512 x 568, other laws and outputs")
def test_reference(benchmark):
    """The plain Python of metro_fast.testing, 8 rows."""
    rows = IDS[:8].tolist()
    benchmark(lambda: [corrupt_row(row, name) for name, row in enumerate(rows)])
    benchmark.extra_info["rows"] = 8
