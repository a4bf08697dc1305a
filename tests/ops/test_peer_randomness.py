"""Errors of public collators in masks and in random numbers, and our results.

Peers: METRO-T0 (gonglinyuan/metro_t0, `fairseq/data/mask_tokens_dataset.py`, `t5_dataset.py`,
`data_utils.py`), HF (`DataCollatorForLanguageModeling`), fairseq (`denoising_dataset.py`), Megatron
(`t5_dataset.py`). Bugs of layout are in test_peer_bugs.py.
"""

import numpy as np
import pytest
import torch

from grouped import grouped
from metro_fast.ops import Denoiser, Masking, corrupt_spans, mask_tokens

SPECIAL = [0, 1, 2, 3, *range(900, 1000)]
OPTIONS = {"mask_token_id": 3, "vocab_size": 1000}


def masked(ids, **options):
    """Which tokens are masked, bool of the shape of ids."""
    batch = mask_tokens(ids, **OPTIONS, **options)
    mask = np.zeros(ids.shape, bool)
    mask.reshape(-1)[batch.masked_positions] = True
    return mask


def hidden(ids, **options):
    """The rows of noise tokens, padded."""
    return corrupt_spans(ids, denoisers=Denoiser(targets="drop"), **grouped(**options)).labels


def test_metro_t0_draws_sentinels_as_random_tokens():
    # Its |V| holds 512 sentinels: 1.5 % of the random ids.
    batch = mask_tokens(
        np.full((200, 500), 50),
        **OPTIONS,
        special_token_ids=SPECIAL,
        masking=Masking(mask_replace_prob=0.0, random_replace_prob=1.0),
    )
    drawn = batch.input_ids.reshape(-1)[batch.masked_positions]
    assert len(drawn) == 200 * 75
    assert not np.isin(drawn, SPECIAL).any()
    assert len(np.unique(drawn)) == 1000 - len(SPECIAL)


def test_metro_t0_masks_its_bos_and_eos():
    ids = np.full((500, 60), 50)
    ids[:, 0], ids[:, -1] = 1, 2
    assert masked(ids)[:, [0, -1]].any(), "as a caller wants it who names no special tokens"
    mask = masked(ids, special_token_ids=SPECIAL)
    assert not mask[:, [0, -1]].any()
    labels = hidden(ids, special_token_ids=[1, 2], eos_token_id=None)
    assert not np.isin(labels, (1, 2)).any()
    assert (labels == 50).any(1).sum() > 450


def test_metro_t0s_streams_of_noise_repeat_over_items():
    # numpy_seed takes a 64-bit hash modulo the float 1e6: only multiples of 64 remain.
    upstream = {int(hash((1, 1, index)) % 1e6) for index in range(200_000)}
    assert len(upstream) < 20_000
    ids = np.full((200_000, 128), 50, np.uint16)
    bits = np.packbits(masked(ids, dtype="int32", seed=1, epoch=1), axis=1)
    assert len(np.unique(bits.view("V16"))) == 200_000


def test_metro_t0_remembers_a_mask_of_another_epoch():
    # An lru_cache whose key lacks the epoch.
    ids = np.full((1, 500), 50)
    first, second = masked(ids, epoch=1), masked(ids, epoch=2)
    assert (first != second).any()
    assert np.array_equal(masked(ids, epoch=1), first)
    ids = np.arange(500)[None]
    assert not np.array_equal(hidden(ids, epoch=1), hidden(ids, epoch=2))


def test_metro_t0_draws_the_masks_of_source_and_target_separately():
    # There twice from one seed; here once: the positions that differ were masked.
    ids = np.random.default_rng(0).integers(4, 900, (50, 200))
    batch = mask_tokens(ids, **OPTIONS)
    changed = np.flatnonzero(batch.input_ids != batch.labels)
    assert len(changed) > 1000
    assert np.isin(changed, batch.masked_positions).all()


def test_metro_t0s_spans_wrap_to_the_first_token():
    # First and last token together in 9 % of the draws, and `<s>` hidden as often as any.
    ids = np.tile(np.arange(100, 164), (20_000, 1))
    options = {"eos_token_id": None, "num_sentinels": 64}
    shares = {}
    for upstream in (True, False):
        task = Denoiser(noise="metro_t0", upstream=upstream, targets="drop")
        labels = corrupt_spans(ids, denoisers=task, **grouped(**options)).labels
        ends = (labels == 100).any(1) & (labels == 163).any(1)
        shares[upstream] = ends.mean()
    assert shares[True] == pytest.approx(0.088, abs=0.01)
    assert shares[False] < 0.01


def test_metro_t0_fails_on_a_batch_without_a_masked_token():
    batch = mask_tokens(np.full((2, 3), 50), **OPTIONS, mlm_probability=0.0)
    assert batch.masked_positions.shape == (0,)
    assert (batch.input_ids == 50).all()


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_hfs_masks_depend_on_the_number_of_workers(workers):
    # Each worker's generator starts from seed + worker id.
    ids = np.random.default_rng(0).integers(4, 900, (48, 100))
    whole_masks, whole_spans = masked(ids, seed=3), hidden(ids, seed=3)
    for worker in range(workers):
        names = np.arange(worker, 48, workers)
        part = ids[names]
        assert np.array_equal(masked(part, seed=3, sample_ids=names), whole_masks[names])
        assert np.array_equal(hidden(part, seed=3, sample_ids=names), whole_spans[names])


def test_hf_and_nanot5_cannot_resume():
    # A global generator cannot go back; any of our batches can be made first.
    ids = np.arange(100, 600).reshape(10, 50)
    batches = [hidden(ids[row : row + 1], sample_ids=[row]) for row in range(10)]
    assert np.array_equal(hidden(ids[7:8], sample_ids=[7]), batches[7])


def test_fairseqs_bart_draws_from_torchs_unseeded_generator():
    ids = np.arange(100, 600)[None]
    before = []
    for seed in (0, 1):
        np.random.seed(seed)  # noqa: NPY002 (the legacy state is the peer's)
        torch.manual_seed(seed)
        state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
        before.append(hidden(ids))
        assert np.array_equal(np.random.get_state()[1], state[0])  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), state[1])
    assert np.array_equal(*before)


def test_megatrons_next_index_equals_its_next_seed():
    # RandomState(seed + idx): item 1 of seed 0 is item 0 of seed 1, and all epochs are equal.
    ids = np.arange(100, 600)[None]
    assert not np.array_equal(hidden(ids, seed=0, sample_ids=[1]), hidden(ids, seed=1))
    assert not np.array_equal(hidden(ids, epoch=1), hidden(ids, sample_ids=[1]))
    assert not np.array_equal(hidden(ids, epoch=1), hidden(ids))
    mask = np.full((1, 500), 50)
    assert (masked(mask, seed=0, sample_ids=[1]) != masked(mask, seed=1)).any()
    assert (masked(mask, epoch=1) != masked(mask)).any()
