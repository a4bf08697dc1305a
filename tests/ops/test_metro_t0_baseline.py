"""METRO-T0's T5 baseline and span masks against the results and draws of upstream's code."""

import json

import numpy as np
import pytest

from metro_fast.ops import (
    Denoiser,
    Masking,
    SpanCorruption,
    Vocabulary,
    corrupt_spans,
    mask_tokens,
)
from metro_fast.testing.corrupt_spans import metro_t0_row, restore_row

END = 1000
"""Upstream's first sentinel in the tests of statistics, where a token is its own position."""


def read(golden_folder, name):
    return json.loads((golden_folder / f"{name}.json").read_text())


def upstreams_vocabulary(first_sentinel, pad=0):
    return Vocabulary(
        sentinel_first=first_sentinel + 1,
        sentinel_step=1,
        num_sentinels=512,
        eos_token_id=None,
        target_end_token_id=first_sentinel,
        pad_token_id=pad,
    )


def test_the_layout_equals_upstreams(golden_folder):
    cases = read(golden_folder, "span_masks")["cases"]
    assert len(cases) == 63
    cut = 0
    for case in cases:
        mask = np.zeros(case["n"], bool)
        mask[case["mask_positions"]] = True
        empty = case["empty_positions"] or []
        first, most = case["first_sentinel"], case["max_positions"]
        source, target = metro_t0_row(case["item"], mask, empty, first, most)
        assert (source, target) == (case["source"], case["target"])
        if len(target) > most:
            cut += 1
        elif not empty:
            # The op also takes a mask, which cannot express empty spans.
            ids = np.array([case["item"]])
            task = Denoiser(noise="metro_t0")
            batch = corrupt_spans(
                ids,
                denoisers=task,
                noise_mask=mask[None],
                vocabulary=upstreams_vocabulary(first),
            )
            assert batch.input_ids.tolist() == [source]
            assert batch.labels.tolist() == [target]
    assert cut > 5, "upstream's targets of one id too many"


def test_a_long_target_ends_within_its_limit_where_upstreams_is_one_longer():
    ids, mask = np.arange(10, 40)[None], np.arange(30)[None] % 2 == 1
    _, upstream = metro_t0_row(ids[0].tolist(), mask[0], [], 500, 16)
    task = Denoiser(noise="metro_t0")
    batch = corrupt_spans(
        ids,
        noise_mask=mask,
        corruption=SpanCorruption(denoisers=task, max_target_length=16),
        vocabulary=upstreams_vocabulary(500),
    )
    assert (len(upstream), batch.labels.shape[1]) == (17, 16)
    assert batch.labels[0].tolist() == [*upstream[:15], 500]


def test_upstreams_own_batches_restore(golden_folder):
    cases = read(golden_folder, "span_masks")["dataset_cases"]
    assert len(cases) == 6
    for case in cases:
        end = case["target"][-1]
        sentinels = range(end + 1, end + 512)
        assert restore_row([*case["source"], end], case["target"], sentinels, end) == case["item"]


def draw(golden, *, upstream, draws=None, seed=5):
    """Masks and empty spans of many rows, bool [draws, n] each, and the batch."""
    n, draws = golden["n"], draws or golden["draws"]
    task = Denoiser(
        noise="metro_t0",
        noise_density=golden["mask_prob"],
        empty_probability=golden["empty_prob"],
        max_span_length=golden["mask_multiple_length"],
        upstream=upstream,
    )
    ids = np.tile(np.arange(n, dtype=np.uint16), (draws, 1))
    vocabulary = upstreams_vocabulary(END, pad=n)
    batch = corrupt_spans(ids, denoisers=task, vocabulary=vocabulary, seed=seed, dtype="int32")
    mask, empty = np.zeros((draws, n), bool), np.zeros((draws, n), bool)
    row, column = np.nonzero((batch.labels >= 0) & (batch.labels < n))
    mask[row, batch.labels[row, column]] = True
    # A span is empty where the next id of the target is not a token; it precedes the next input.
    row, column = np.nonzero(batch.labels > END)
    hides_nothing = batch.labels[row, column + 1] >= END
    of_row, place = np.nonzero(batch.input_ids > END)
    assert np.array_equal(of_row, row)
    row, place = row[hides_nothing], place[hides_nothing]
    empty[row, batch.input_ids[row, place + 1]] = True
    return mask, empty, batch


def compare(values, histogram):
    """One value per draw, against upstream's histogram of as many draws."""
    theirs = {int(value): count for value, count in histogram.items()}
    ours = dict(zip(*np.unique(values, return_counts=True), strict=True))
    assert len(values) == sum(theirs.values())
    for value in ours.keys() | theirs.keys():
        mine, other = ours.get(value, 0), theirs.get(value, 0)
        share = (mine + other) / 2 / len(values)
        assert abs(mine - other) <= 5 * np.sqrt(2 * len(values) * share * (1 - share)), value


def compare_sums(per_draw, sums):
    """Counts [draws, k], against upstream's sums over as many draws.

    Their variance is our own, or Poisson's of both together, where we have seen few.
    """
    rare = (per_draw.sum(0) + sums) / 2
    scale = np.sqrt(2 * np.where(rare < 100, rare, len(per_draw) * per_draw.var(0)))
    assert (abs(per_draw.sum(0) - sums) <= 5 * scale + 1e-9).all()


def compare_neighbors(mask, runs, lags):
    """The lengths of runs, and the pairs at 1 to 5 apart that are both masked."""
    changes = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(changes == 1)
    lengths = np.nonzero(changes == -1)[1] - start
    draws, widest = len(mask), max(lengths.max(), *map(int, runs)) + 1
    per_draw = np.bincount(row * widest + lengths, minlength=draws * widest).reshape(draws, widest)
    compare_sums(per_draw, np.array([runs.get(str(length), 0) for length in range(widest)]))
    both = [(mask[:, lag:] & mask[:, :-lag]).sum(1) for lag in range(1, 6)]
    compare_sums(np.array(both).T, np.array(lags))


@pytest.mark.parametrize("table", range(5))
def test_upstreams_statistics(golden_folder, table):
    golden = read(golden_folder, "span_stats")["tables"][table]
    mask, empty, batch = draw(golden, upstream=True)
    begins = mask & ~np.pad(mask, ((0, 0), (1, 0)))[:, :-1]
    compare(mask.sum(1), golden["masked_count_hist"])
    compare(empty.sum(1), golden["empty_count_hist"])
    compare(begins.sum(1), golden["span_count_hist"])
    compare(begins.sum(1) + empty.sum(1), golden["sentinel_count_hist"])
    compare(batch.input_lengths, golden["source_length_hist"])
    compare(batch.label_lengths, golden["target_length_hist"])
    error = golden["sd_masked"] * np.sqrt(2 / len(mask))
    assert abs(mask.sum(1).mean() - golden["mean_masked"]) < 5 * error

    compare_neighbors(mask, golden["span_length_hist"], golden["both_masked_at_lag_1_to_5"])
    for ours, name in ((mask, "masked_per_position"), (empty, "empty_per_position")):
        compare_sums(ours, np.array(golden[name]))
    ends = mask[:, :1] & mask[:, -1:]
    compare_sums(ends, np.array([golden["first_and_last_masked"]]))


@pytest.mark.parametrize("table", [0, 1])
def test_our_own_law_differs_where_a_span_would_wrap_and_nowhere_else(golden_folder, table):
    golden = read(golden_folder, "span_stats")["tables"][table]
    draws = 40_000
    wrapping, wrapping_empty, _ = draw(golden, upstream=True, draws=draws)
    mask, empty, _ = draw(golden, upstream=False, draws=draws)
    other = (wrapping != mask).any(1) | (wrapping_empty != empty).any(1)
    assert other.sum() > 100
    # Upstream hides the first token together with the last in every row that differs.
    assert wrapping[other, 0].all()
    assert wrapping[other, -1].all()
    # Ours hides the first token exactly where a span starts there.
    share = golden["mask_prob"] * (1 - golden["empty_prob"]) / 3
    assert abs(mask[:, 0].mean() - share) < 5 * np.sqrt(share * (1 - share) / draws)
    assert wrapping[:, 0].mean() > 2 * share
    together = (mask[:, 0] & mask[:, -1]).mean()
    assert together < 1.5 * mask[:, 0].mean() * mask[:, -1].mean()


def test_span_masks_of_the_auxiliary_model(golden_folder):
    golden = read(golden_folder, "iid_stats")["tables"][2]
    n, draws = golden["n"], golden["draws"]
    assert (golden["mask_multiple_length"], golden["mask_stdev"]) == (3, 0.0)
    batch = mask_tokens(
        np.full((draws, n), 700, np.uint16),
        mask_token_id=golden["mask_idx"],
        vocab_size=golden["vocab"],
        mlm_probability=golden["mask_prob"],
        masking=Masking(mask_span_length=3, mask_replace_prob=1.0, random_replace_prob=0.0),
        seed=4,
    )
    mask = batch.input_ids == golden["mask_idx"]
    compare(mask.sum(1), golden["target_count_hist"])
    compare(mask.sum(1), golden["masked_token_count_hist"])
    compare_sums(mask, np.array(golden["targets_per_position"]))
    compare_neighbors(mask, golden["run_length_hist"], golden["both_targets_at_lag_1_to_5"])


def test_padding_and_the_shift_of_the_decoder(golden_folder):
    batches = read(golden_folder, "collate")["batches"]
    assert len(batches) == 5
    for golden in batches:
        items, padded = golden["items"], np.array(golden["right_padded"])
        ids, offsets = np.concatenate(items), np.cumsum([0, *map(len, items)])
        out = [np.zeros(padded.shape, np.int64) for _ in range(4)]
        batch = corrupt_spans(
            ids,
            offsets=offsets,
            denoisers=Denoiser(targets="whole"),
            noise_mask=np.zeros(len(ids), bool),
            vocabulary=Vocabulary(
                eos_token_id=None,
                pad_token_id=golden["pad_idx"],
                decoder_start_token_id=golden["start_idx"],
            ),
            out=out,
        )
        assert np.array_equal(batch.input_ids, padded)
        assert np.array_equal(
            batch.attention_mask, np.arange(padded.shape[1]) < np.diff(offsets)[:, None]
        )
        counts = batch.labels != -100
        assert np.array_equal(batch.labels[counts], ids)
        # T5's shift continues after a short row's last id, from which no label is predicted.
        previous = np.array(golden["prev_output_tokens"])
        assert np.array_equal(batch.decoder_input_ids[counts], previous[counts])
