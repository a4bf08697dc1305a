"""mask_tokens: bit-equal to its reference, METRO's law against upstream's statistics, bad input."""

import json
from math import ceil, floor
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grouped import grouped
from metro_fast import MetroFastError
from metro_fast.ops import Masking, Vocabulary, mask_tokens
from metro_fast.testing.mask_tokens import mask_row
from metro_fast.testing.strategies import counters, ragged_rows

OPTIONS = {"mask_token_id": 3, "vocab_size": 90}


def span_table(length, stdev):
    """Probabilities of max(0, round(N(length, stdev))) being 0, 1, 2, ..."""
    if stdev == 0:
        return [0.0] * length + [1.0]
    law = NormalDist(length, stdev)
    ends = [law.cdf(step + 0.5) for step in range(ceil(length + 8 * stdev) + 1)]
    return [ends[0], *np.diff(ends).tolist()]


@given(
    rows=ragged_rows(lowest=0, highest=89),
    probability=st.floats(0, 1),
    kinds=st.tuples(st.floats(0, 0.6), st.floats(0, 0.4)),
    special=st.sets(st.integers(0, 79), max_size=30),
    start=st.integers(0, 80),
    seed=counters,
    epoch=counters,
    threads=st.integers(1, 4),
    law=st.sampled_from(
        [
            {},
            {"count": "electra"},
            {"max_masked": 5},
            {"mask_span_length": 3},
            {"mask_span_length": 2, "mask_span_stdev": 1.5},
            {"word_starts": np.arange(80) % 3 != 0},
            {"word_starts": np.arange(80) % 3 != 0, "count": "electra"},
            {"word_starts": np.arange(80) % 3 != 0, "count": "electra", "max_masked": 4},
            {"mask_span_length": 2, "count": "electra"},
            {"mask_span_length": 3, "max_masked": 2},
        ]
    ),
)
def test_equals_the_reference(
    simd, rows, probability, kinds, special, start, seed, epoch, threads, law
):
    ids, offsets, names = rows
    options = {
        "mlm_probability": probability,
        "mask_replace_prob": kinds[0],
        "random_replace_prob": kinds[1],
        "special_token_ids": special,
        "random_token_range": (start, 90),
        "seed": seed,
        "epoch": epoch,
    }
    batch = mask_tokens(
        ids,
        offsets=offsets,
        sample_ids=names,
        num_threads=threads,
        **grouped(**OPTIONS, **options, **law),
    )
    table = None
    if "mask_span_length" in law:
        table = span_table(law["mask_span_length"], law.get("mask_span_stdev", 0.0))
    same = grouped(**OPTIONS, **options, **law)
    lengths = np.diff(offsets)
    width = lengths.max()
    assert batch.lengths.tolist() == lengths.tolist()
    flat = []
    for row, name in enumerate(names.tolist()):
        source = ids[offsets[row] : offsets[row + 1]].tolist()
        masked, positions = mask_row(source, name, span_table=table, **same)
        rest = width - len(source)
        assert batch.input_ids[row].tolist() == masked + [0] * rest
        assert batch.labels[row].tolist() == source + [-100] * rest
        flat += [row * width + position for position in positions]
    assert batch.masked_positions.tolist() == flat
    assert {a.dtype for a in batch[:4]} == {np.dtype(np.int64)}
    assert batch.attention_mask is None


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int32", "int64"])
def test_neither_layout_nor_dtype_nor_threads_nor_order_change_a_draw(dtype):
    ids = np.random.default_rng(0).integers(4, 90, (33, 70))
    expected = mask_tokens(ids, seed=4, num_threads=1, **OPTIONS)
    same = mask_tokens(ids.astype(dtype), seed=4, num_threads=3, **OPTIONS)
    tensors = mask_tokens(torch.from_numpy(ids.astype(dtype)), seed=4, **OPTIONS)
    assert all(np.array_equal(a, b) for a, b in zip(expected, same, strict=True))
    assert all(isinstance(t, torch.Tensor) for t in tensors[:4])
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(expected[:4], tensors[:4], strict=True))
    order = np.random.default_rng(1).permutation(33)[:7]
    part = mask_tokens(ids[order], sample_ids=order, seed=4, **OPTIONS)
    assert np.array_equal(part.input_ids, expected.input_ids[order])


def test_seed_epoch_and_sample_id_each_change_the_draw():
    ids = np.arange(4, 84)[None]
    base = mask_tokens(ids, **OPTIONS)
    for change in ({"seed": 1}, {"epoch": 1}, {"sample_ids": [1]}):
        other = mask_tokens(ids, **OPTIONS, **change)
        assert not np.array_equal(base.masked_positions, other.masked_positions)


def test_a_longer_row_keeps_the_kinds_of_its_positions():
    # The draw of a position depends on (sample, position), not on its rank in the row.
    options = {**OPTIONS, "mlm_probability": 1.0}
    ids = np.arange(4, 84)
    long = mask_tokens(ids[None], **options).input_ids[0]
    short = mask_tokens(ids[None, :50], **options).input_ids[0]
    assert np.array_equal(long[:50], short)


@pytest.mark.parametrize(
    ("length", "probability", "counts"), [(512, 0.15, {76, 77}), (40, 0.15, {6}), (10, 1.0, {10})]
)
def test_the_count_is_exact(length, probability, counts):
    ids = np.full((2000, length), 50)
    batch = mask_tokens(ids, **OPTIONS, mlm_probability=probability)
    rows = np.bincount(batch.masked_positions // length, minlength=2000)
    assert set(rows.tolist()) == counts
    # floor(p n + U) has mean p n; its standard deviation is at most 1/2.
    assert abs(rows.mean() - length * probability) < 5 * 0.5 / np.sqrt(2000)


def test_special_tokens_are_neither_masked_nor_drawn():
    special = [0, 1, 2, 3, *range(70, 90)]
    ids = np.random.default_rng(0).integers(0, 90, (200, 100))
    batch = mask_tokens(
        ids,
        **OPTIONS,
        special_token_ids=special,
        masking=Masking(mask_replace_prob=0.0, random_replace_prob=1.0),
    )
    flat, new = ids.reshape(-1), batch.input_ids.reshape(-1)
    assert not np.isin(flat[batch.masked_positions], special).any()
    assert not np.isin(new[batch.masked_positions], special).any()
    eligible = (~np.isin(ids, special)).sum(1)
    rows = np.bincount(batch.masked_positions // 100, minlength=200)
    assert set((rows - np.floor(0.15 * eligible)).tolist()) == {0, 1}
    only_special = mask_tokens(np.zeros((1, 9), int), **OPTIONS, special_token_ids=special)
    assert len(only_special.masked_positions) == 0


@pytest.mark.parametrize("count", ["metro", "electra"])
def test_whole_words_are_drawn_alike_whatever_their_lengths(count):
    # Ten words of 1 to 4 tokens. Each is drawn with the same probability, as a whole.
    starts = np.arange(90) % 2 == 0
    lengths = [1, 2, 3, 4, 1, 2, 3, 4, 2, 3]
    row = np.concatenate([[20, *[21] * (length - 1)] for length in lengths])
    draws, width = 4000, len(row)
    batch = mask_tokens(
        np.tile(row, (draws, 1)),
        vocabulary=Vocabulary(**OPTIONS, word_starts=starts),
        masking=Masking(count=count, mlm_probability=0.25),
    )
    masked = np.zeros((draws, width), bool)
    masked.reshape(-1)[batch.masked_positions] = True
    words = np.repeat(np.arange(10), lengths)
    drawn = np.stack([masked[:, words == word].all(1) for word in range(10)], 1)
    assert (masked == drawn[:, words]).all()
    if count == "metro":  # floor(2.5 + U) of the words, without replacement
        assert set(drawn.sum(1).tolist()) == {2, 3}
        share = 0.25
    else:  # round(2.5) = 2 draws of a word, with replacement
        assert set(drawn.sum(1).tolist()) == {1, 2}
        share = 1 - 0.9**2
    assert abs(drawn.mean(0) - share).max() < 5 * np.sqrt(share * (1 - share) / draws)


def test_the_rules_of_ancestors_by_name():
    # google-research/electra masks 15 %, 85 % of it by [MASK], and keeps the rest.
    assert Masking.electra() == Masking(
        count="electra", mlm_probability=0.15, mask_replace_prob=0.85, random_replace_prob=0.0
    )
    ids = np.full((3000, 100), 50)
    masking = Masking.electra(max_masked=15)
    batch = mask_tokens(ids, **OPTIONS, masking=masking, special_token_ids=[0, 3])
    new = batch.input_ids.reshape(-1)[batch.masked_positions]
    assert set(new.tolist()) == {3, 50}
    assert abs((new == 3).mean() - 0.85) < 5 * np.sqrt(0.85 * 0.15 / len(new))
    expected = 100 * (1 - 0.99**15)  # different ones of 15 draws from 100
    assert abs(len(new) / 3000 - expected) < 5 * 1 / np.sqrt(3000)
    assert Masking.metro() == Masking.coco_lm() == Masking()
    assert Masking.coco_lm(mlm_probability=0.3).mlm_probability == 0.3
    with pytest.raises(TypeError, match="share"):
        Masking.electra(share=0.1)


@pytest.mark.parametrize("table", [0, 1])
def test_upstream_statistics(golden_folder, table):
    # With no special ids and upstream's range of random ids the law is upstream's own.
    golden = json.loads((golden_folder / "iid_stats.json").read_text())["tables"][table]
    length, draws, size = golden["n"], golden["draws"], golden["vocab"]
    original = 700
    batch = mask_tokens(
        np.full((draws, length), original, np.uint16),
        mask_token_id=golden["mask_idx"],
        vocab_size=size,
        masking=Masking(
            mlm_probability=golden["mask_prob"],
            mask_replace_prob=1 - golden["leave_unmasked_prob"] - golden["random_token_prob"],
            random_replace_prob=golden["random_token_prob"],
            random_token_range=(golden["nspecial"], size),
        ),
        seed=12,
    )
    rows, columns = np.divmod(batch.masked_positions, length)
    new = batch.input_ids.reshape(-1)[batch.masked_positions]
    masked, unchanged = new == golden["mask_idx"], new == original
    totals = golden["totals"]
    count = len(new)
    assert abs(count - totals["targets"]) < 5 * np.sqrt(draws / 2)
    for name, ours in (
        ("masked", masked),
        ("unchanged", unchanged),
        ("random_other", ~masked & ~unchanged),
    ):
        p = totals[name] / totals["targets"]
        assert abs(ours.mean() - p) < 5 * np.sqrt(2 * p * (1 - p) / count), name
        per_draw = np.bincount(rows[ours], minlength=draws)
        for value, theirs in golden[f"{name.replace('masked', 'masked_token')}_count_hist"].items():
            share = theirs / draws
            mine = (per_draw == int(value)).mean()
            assert abs(mine - share) < 5 * np.sqrt(2 * share * (1 - share) / draws) + 1e-9
    difference = np.bincount(columns, minlength=length) - golden["targets_per_position"]
    assert abs(difference / draws).max() < 5 * np.sqrt(2 * 0.15 * 0.85 / draws)
    random = new[~masked & ~unchanged]
    assert (random.min(), random.max()) == (golden["nspecial"], size - 1)


def test_the_same_two_identities_as_upstreams_cases(golden_folder):
    cases = json.loads((golden_folder / "iid_masks.json").read_text())["cases"]
    cases = [case for case in cases if case["mask_multiple_length"] == 1]
    assert len(cases) > 10
    for case in cases:
        item, pad = np.array(case["item"]), case["pad_idx"]
        hidden = np.array(case["target"]) != pad
        assert (np.array(case["source"])[~hidden] == item[~hidden]).all()
        ours = mask_tokens(
            np.tile(item, (50, 1)),
            mask_token_id=case["mask_idx"],
            vocab_size=case["vocab"],
            mlm_probability=case["mask_prob"],
            pad_token_id=pad,
        )
        ours_hidden = np.zeros((50, len(item)), bool)
        ours_hidden.reshape(-1)[ours.masked_positions] = True
        assert (ours.input_ids[~ours_hidden] == np.tile(item, (50, 1))[~ours_hidden]).all()
        # Both counts are floor(p n + U).
        expected = case["mask_prob"] * len(item)
        for count in (hidden.sum(), *ours_hidden.sum(1)):
            assert floor(expected) <= count <= floor(expected) + 1


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("extra", [0, 3])
def test_types_and_the_attention_mask(simd, dtype, extra):
    ids, offsets = np.arange(10, 80), np.array([0, 1, 40, 70])
    plain = mask_tokens(ids, offsets=offsets, **OPTIONS)
    allocated = mask_tokens(ids, offsets=offsets, attention_mask=True, dtype=dtype, **OPTIONS)
    out = [np.full((3, 39 + extra), 9, dtype) for _ in range(3)]
    given_out = mask_tokens(ids, offsets=offsets, out=out, num_threads=3, **OPTIONS)
    for batch in (allocated, given_out):
        assert {a.dtype for a in (*batch[:2], batch.attention_mask)} == {np.dtype(dtype)}
        assert np.array_equal(batch.input_ids[:, :39], plain.input_ids)
        assert np.array_equal(batch.labels[:, :39], plain.labels)
        shown = np.arange(batch.input_ids.shape[1]) < np.diff(offsets)[:, None]
        assert np.array_equal(batch.attention_mask, shown)
    assert given_out.attention_mask is out[2]


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_an_out_that_shares_memory_is_refused(kind):
    ids, other = kind(np.full((1, 9), 7)), kind(np.zeros((1, 9), np.int64))
    for out in ((ids, other), (other, ids), (other, other)):
        with pytest.raises(MetroFastError, match="shares memory with"):
            mask_tokens(ids, mask_token_id=3, vocab_size=10, out=out)


def test_out_is_written_wider_than_needed_and_returned():
    ids = np.arange(10, 40).reshape(2, 15)
    out = (np.full((2, 20), 9), np.full((2, 20), 9))
    batch = mask_tokens(ids, **OPTIONS, out=out)
    plain = mask_tokens(ids, **OPTIONS)
    assert batch.input_ids is out[0]
    assert batch.labels is out[1]
    assert np.array_equal(out[0][:, :15], plain.input_ids)
    assert (out[0][:, 15:] == 0).all()
    assert (out[1][:, 15:] == -100).all()
    row, column = np.divmod(plain.masked_positions, 15)
    assert batch.masked_positions.tolist() == (row * 20 + column).tolist()


def rows(*ids):
    return np.array([ids])


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        (np.empty((0, 5), np.int64), {}, "at least one row"),
        (rows(5, 90), {}, "90 at row 0, column 1, expected an id below vocab_size 90"),
        (rows(-100, 5), {}, "-100 at row 0, column 0"),
        (rows(5), {"mlm_probability": 1.5}, "mlm_probability is 1.5"),
        (rows(5), {"mlm_probability": float("nan")}, "mlm_probability is NaN"),
        (rows(5), {"mask_replace_prob": 0.95}, "at most 1"),
        (rows(5), {"random_replace_prob": -1.0}, "random_replace_prob is -1"),
        (rows(5), {"mask_token_id": 90}, "mask_token_id is 90"),
        (rows(5), {"vocab_size": 0}, "vocab_size is 0"),
        (rows(5), {"pad_token_id": 99}, "pad_token_id is 99"),
        (rows(5), {"special_token_ids": [90]}, "special_token_ids is 90"),
        (rows(5), {"random_token_range": (5, 91)}, "random_token_range"),
        (rows(5), {"random_token_range": (5, 7), "special_token_ids": [5, 6]}, "not special"),
        (rows(5), {"seed": -1}, "seed is -1"),
        (rows(5), {"sample_ids": [1, 2]}, "2 ids for 1 rows"),
        (rows(5, 6), {"out": (np.zeros((1, 1), int), np.zeros((1, 1), int))}, "width 1"),
        (rows(5, 6), {"out": (np.zeros((1, 3), int), np.zeros((1, 2), int))}, "equal rows"),
    ],
)
def test_bad_values_are_named(ids, options, message):
    with pytest.raises(MetroFastError, match=message):
        mask_tokens(ids, **grouped(**{**OPTIONS, **options}))


@pytest.mark.parametrize(
    ("ids", "options"),
    [
        ([[5]], {}),
        (np.array([[5.0]]), {}),
        (rows(5), {"special_token_ids": [0.5]}),
        (rows(5), {"mask_token_id": None}),
        (rows(5), {"random_token_range": (0.5, 3)}),
        (rows(5), {"out": (np.zeros((1, 1)), np.zeros((1, 1)))}),
    ],
)
def test_wrong_types_are_type_errors(ids, options):
    with pytest.raises(TypeError):
        mask_tokens(ids, **grouped(**{**OPTIONS, **options}))
