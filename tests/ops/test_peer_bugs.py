"""Errors of public span collators, each on the input that shows it, and our result for it.

Peers, as read and run: t5 (`t5/data/preprocessors.py`), HF (transformers' `run_t5_mlm_flax.py`),
nanoT5 (`nanoT5/utils/copied_utils.py`), UL2_5 (`src/UL2_5`), MosaicML (llm-foundry's
`data/denoising.py`), ulp (unify-learning-paradigms' `collate_fn.py`), Megatron (`t5_dataset.py`),
METRO-T0 (`fairseq/data/t5_dataset.py`). Bugs of masks and of randomness are in
test_peer_randomness.py.
"""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch

from metro_fast import MetroFastError
from metro_fast.ops import (
    Denoiser,
    SpanLengths,
    compute_input_and_target_lengths,
    corrupt_spans,
    mask_tokens,
    ul2_denoisers,
)
from metro_fast.testing.corrupt_spans import restore_row

SENTINELS = range(32099, 31999, -1)
EOS = 1


def corrupt(*ids, **options):
    """Inputs and labels of one row, as lists."""
    batch = corrupt_spans(np.array([ids]), **options)
    return batch.input_ids[0].tolist(), batch.labels[0].tolist()


def noise_of(labels):
    return [token for token in labels if token not in SENTINELS and token != EOS]


def spans_of(labels):
    return [token for token in labels if token in SENTINELS]


def test_hf_and_nanot5_fail_on_a_row_of_one_token():
    # IndexError in random_spans_noise_mask. T5 keeps the token, and its target is one sentinel.
    assert corrupt(7) == ([7, EOS], [32099, EOS])


@pytest.mark.parametrize("ids", [(7, 8), (7, 8, 9)])
def test_hf_fails_on_rows_of_two_and_three_tokens(ids):
    # IndexError: HF counts the kept tokens before it clamps the noise to 1.
    assert corrupt(*ids) == ([*ids[:-1], 32099, EOS], [32099, ids[-1], EOS])


def test_ul2_5_leaves_two_tokens_without_noise():
    # MIN_SEQ_LEN is 3 in UL2_5's masking.py.
    assert noise_of(corrupt(7, 8)[1]) == [8]


def test_metro_t0_often_hides_nothing_in_short_rows():
    # Its counts are rounded at random: the default law hides one token in every row.
    batch = corrupt_spans(np.full((500, 3), 7))
    assert (batch.labels == 7).sum(1).tolist() == [1] * 500


def test_hf_fails_at_density_0():
    # IndexError. T5: no noise, and the first sentinel as target.
    assert corrupt(7, 8, 9, noise_density=0.0) == ([7, 8, 9, EOS], [32099, EOS])


def test_nanot5_and_ul2_5_hide_a_token_at_density_0():
    # The clamp to 1 comes after the density.
    assert noise_of(corrupt(*range(10, 30), noise_density=0.0)[1]) == []


def test_metro_t0_asserts_that_density_is_above_0():
    task = Denoiser(noise="metro_t0", noise_density=0.0)
    assert corrupt(7, 8, 9, denoisers=task) == ([7, 8, 9, EOS], [EOS])


def test_t5_and_nanot5_fail_where_there_are_more_spans_than_kept_tokens():
    # 18 spans among 2 kept tokens: InvalidArgument in TensorFlow, ValueError in numpy.
    inputs, labels = corrupt(*range(10, 30), noise_density=0.9, mean_noise_span_length=1.0)
    assert (len(noise_of(labels)), len(spans_of(labels))) == (18, 2)
    assert restore_row(inputs, labels, SENTINELS) == [*range(10, 30)]


def test_mosaic_and_ul2_5_miss_the_density_where_spans_do_not_fit():
    # MosaicML's empty kept runs merge 18 spans into 10 and hide 10 tokens; UL2_5 stops early.
    for density, mean, noise in ((0.9, 1.0, 18), (0.999, 3.0, 19)):
        labels = corrupt(*range(10, 30), noise_density=density, mean_noise_span_length=mean)[1]
        assert len(noise_of(labels)) == noise


def test_t5_and_nanot5_fail_at_a_density_near_1():
    # InvalidArgument and ValueError where HF makes one span.
    inputs, labels = corrupt(*range(10, 30), noise_density=0.999)
    assert (inputs, labels) == ([10, 32099, EOS], [32099, *range(11, 30), EOS])


LONG = range(100, 2148)
"""2048 tokens, 307 of them noise in 102 spans."""


def test_ordinary_vocabulary_is_never_used_as_a_sentinel():
    # t5, HF and nanoT5 count on to 31999 and 31998, in silence.
    with pytest.raises(MetroFastError, match="102 sentinels, but num_sentinels is 100"):
        corrupt(*LONG)


def test_ul2_5_and_mosaic_repeat_the_last_sentinel():
    inputs, labels = corrupt(*LONG, on_sentinel_shortage="clamp")
    assert spans_of(labels) == spans_of(inputs) == [*SENTINELS]
    assert len(noise_of(labels)) == 307
    assert restore_row(inputs, labels, SENTINELS) == [*LONG]


def test_megatron_pops_from_an_empty_deque_of_sentinels():
    # IndexError, which names neither the row nor what to do.
    with pytest.raises(MetroFastError, match=r"row 0 of 400 tokens needs 20 .* is 10: use shorter"):
        corrupt(*range(400), num_sentinels=10)
    labels = corrupt(*range(400), num_sentinels=10, on_sentinel_shortage="clamp")[1]
    assert spans_of(labels) == [*SENTINELS[:10]]


def test_hf_and_nanot5_fail_on_rows_of_different_lengths():
    # ValueError: inhomogeneous. Here a row does not depend on its neighbors.
    ids, offsets = np.arange(10, 100), [0, 20, 23, 90]
    batch = corrupt_spans(ids, offsets=offsets)
    for row, (start, end) in enumerate(pairwise(offsets)):
        inputs, labels = corrupt(*ids[start:end], sample_ids=[row])
        assert batch.input_ids[row, : batch.input_lengths[row]].tolist() == inputs
        assert batch.labels[row, : batch.label_lengths[row]].tolist() == labels


FIRST_IS_NOISE = np.array([[True, True, *[False] * 9, True, True, *[False] * 7]])


def test_t5_random_roll_leaves_the_first_span_without_a_sentinel():
    # [32099, 5, ...] -> [3, 4, 32099, 14, 15, ...]: every sentinel names the span after its own.
    inputs, labels = corrupt(*range(3, 23), noise_mask=FIRST_IS_NOISE)
    assert inputs == [32099, *range(5, 14), 32098, *range(16, 23), EOS]
    assert labels == [32099, 3, 4, 32098, 14, 15, EOS]


def test_ul2_5_misaligns_the_half_of_its_rows_that_start_with_noise():
    # Ours may start with noise under other laws, and then restores.
    ids = np.tile(np.arange(100, 130), (200, 1))
    task = Denoiser(noise="sampled_spans", noise_density=0.5, span_lengths=SpanLengths.fixed(3))
    batch = corrupt_spans(ids, denoisers=task)
    starting = np.flatnonzero(batch.input_ids[:, 0] == 32099)
    assert len(starting) > 20
    for row in starting:
        labels = batch.labels[row].tolist()
        assert labels[:2] == [32099, 100]
        assert restore_row(batch.input_ids[row].tolist(), labels, SENTINELS) == ids[row].tolist()


def test_old_hf_drops_pad_ids_that_occur_in_text():
    # Its filter was `> 0` (issue 15359), and t5's reduce_concat_tokens drops id 0 to this day.
    ids = [0, 5, 0, 0, 6, 0, 7, 0, 0, 0, 8, 0]
    inputs, labels = corrupt(*ids, noise_density=0.5, mean_noise_span_length=2.0)
    assert restore_row(inputs, labels, SENTINELS) == ids


def test_old_hf_counts_sentinels_up_from_the_vocabulary():
    # From len(tokenizer) on, ids without an embedding (PR 14477).
    inputs, labels = corrupt(*range(10, 60))
    assert spans_of(inputs) == spans_of(labels) == [32099, 32098, 32097]


def test_hf_length_helper_is_off_by_one_at_mean_span_1():
    # It starts at inputs_length where t5's starts one below, and its collator then raises.
    assert compute_input_and_target_lengths(64, 0.2, 1.0) == (63, 27)
    assert compute_input_and_target_lengths(64, 0.2, 1.0, compat="hf") == (64, 27)
    options = {"noise_density": 0.2, "mean_noise_span_length": 1.0}
    assert [len(side) for side in corrupt(*range(63), **options)] == [64, 27]
    assert len(corrupt(*range(64), **options)[0]) == 65


def test_hf_refuses_rows_that_its_helper_did_not_choose():
    # "length is 922, but should be 1024" (issue 23248): here every row has a length of its own.
    assert len(corrupt(*range(100, 1124), on_sentinel_shortage="clamp")[0]) == 1024 - 154 + 51 + 1


@pytest.mark.parametrize("length", [190, 350, 390, 670, 710, 750, 790, 830, 1310, 1350])
def test_t5s_helper_and_mask_round_differently(length):
    # The helper in f64, the mask in f32: one token off the promise at 166 lengths below 20,000.
    single = np.round(np.float32(length) * np.float32(0.15))
    assert single != np.round(length * 0.15)
    labels = corrupt(*range(100, 100 + length))[1]
    exact = round(length * Fraction(15, 100))
    assert len(noise_of(labels)) == exact
    inputs = length - exact + len(spans_of(labels)) + 1
    assert compute_input_and_target_lengths(inputs)[0] >= length


@pytest.mark.parametrize("task", range(7))
def test_ulp_ends_no_row_of_r_and_x_with_eos(task):
    inputs, labels = corrupt(*range(10, 90), denoisers=ul2_denoisers()[task])
    assert inputs[-1] == labels[-1] == EOS


def test_ulp_joins_several_settings_into_one_mask():
    # Its (mean, density) pairs are OR-ed, and hide more than any one of them.
    batch = corrupt_spans(np.full((300, 80), 7), denoisers=ul2_denoisers()[:6])
    expected = np.array([12, 12, 40, 40, 12, 40])[batch.denoisers]
    assert np.array_equal((batch.labels == 7).sum(1), expected)


def test_ulp_splits_every_prefix_in_the_middle():
    task = ul2_denoisers()[-1]
    batch = corrupt_spans(np.full((300, 80), 7), denoisers=task)
    assert len(set(batch.label_lengths.tolist())) > 30


def test_ul2_5_truncates_eos_away():
    inputs, labels = corrupt(*range(10, 90), max_input_length=40, max_target_length=9)
    assert (len(inputs), len(labels)) == (40, 9)
    assert inputs[-1] == labels[-1] == EOS


def test_mosaic_appends_no_eos_behind_a_text_that_ends_with_it():
    # So its model never learns to end such a target: two ends are two ends.
    inputs, labels = corrupt(*range(10, 29), EOS)
    assert labels[-2:] == [EOS, EOS]
    assert restore_row(inputs, labels, SENTINELS) == [*range(10, 29), EOS]


def test_mosaics_int32_labels_are_refused_by_cross_entropy():
    ids, cross_entropy = torch.arange(10, 30)[None], torch.nn.functional.cross_entropy
    labels = corrupt_spans(ids).labels[0]
    logits = torch.zeros(len(labels), 32100)
    assert cross_entropy(logits, labels) == pytest.approx(np.log(32100))
    with pytest.raises(RuntimeError, match="Int"):
        cross_entropy(logits, corrupt_spans(ids, dtype="int32").labels[0])


def test_megatron_finds_whole_words_by_hashes_only():
    # "##" continues a word in BERT's vocabularies; here a table names the tokens that start one.
    word_starts = np.arange(2000) % 3 == 0
    ids = np.arange(300, 900)
    inputs, labels = corrupt(*ids.tolist(), word_starts=word_starts)
    assert restore_row(inputs, labels, SENTINELS) == ids.tolist()
    hidden = np.array(noise_of(labels))
    assert set(np.bincount(hidden // 3)[100:].tolist()) == {0, 3}
    # HF's whole_word_mask knows no kept and no random tokens.
    batch = mask_tokens(
        ids[None], mask_token_id=3, vocab_size=2000, word_starts=word_starts, seed=2
    )
    masked = batch.masked_positions
    assert set(np.bincount(masked // 3).tolist()) == {0, 3}
    kinds = batch.input_ids[0, masked]
    assert 0 < (kinds == ids[masked]).sum() < (kinds == 3).sum() < len(masked)
