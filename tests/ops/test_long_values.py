"""Options of ops that are not one: the message is short, and nothing in it moves the cursor."""

import numpy as np
import pytest

from metro_fast import ops
from metro_fast.data import TokenCorpus
from metro_fast.experts.adapters.tensors import dtype_name

LONG = "x\x1b[2J" * 200_000
IDS = np.full((2, 8), 9)
SPANS = {"sentinel_start_id": 99, "eos_token_id": 1}
MASKS = {"mask_token_id": 3, "vocab_size": 100}
PACKED = ops.pack(np.ones(64, np.int8))

DOORS = {
    "compat of lengths": lambda: ops.compute_input_and_target_lengths(64, compat=LONG),
    "compat": lambda: ops.corrupt_spans(IDS, compat=LONG, **SPANS),
    "noise": lambda: ops.corrupt_spans(IDS, noise=LONG, **SPANS),
    "inputs": lambda: ops.corrupt_spans(IDS, inputs=LONG, **SPANS),
    "targets": lambda: ops.corrupt_spans(IDS, targets=LONG, **SPANS),
    "dtype of spans": lambda: ops.corrupt_spans(IDS, dtype=LONG, **SPANS),
    "count": lambda: ops.mask_tokens(IDS, count=LONG, **MASKS),
    "dtype of masks": lambda: ops.mask_tokens(IDS, dtype=LONG, **MASKS),
    "coding": lambda: ops.pack(np.ones(64, np.int8), coding=LONG),
    "dtype of unpack": lambda: ops.unpack(PACKED, dtype=LONG),
    "alpha": lambda: ops.ternarize(np.ones(64, np.float32), density=0.5, alpha=LONG),
    "density": lambda: ops.ternarize(np.ones(64, np.float32), density=LONG),
    "shortage": lambda: ops.corrupt_spans(IDS, on_sentinel_shortage=LONG, **SPANS),
    "range": lambda: ops.mask_tokens(IDS, random_token_range=LONG, **MASKS),
    "seed": lambda: ops.mask_tokens(IDS, seed=LONG, **MASKS),
    "threads": lambda: ops.mask_tokens(IDS, num_threads=LONG, **MASKS),
    "span lengths": lambda: ops.corrupt_spans(IDS, span_lengths=LONG, **SPANS),
    "dtype of an expert": lambda: dtype_name(LONG),
    "another dtype": lambda: ops.unpack(PACKED, dtype="float64"),
}


@pytest.mark.parametrize("name", DOORS)
def test_a_value_of_a_megabyte_is_cut_and_escaped(name: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        DOORS[name]()
    message = str(caught.value)
    assert len(message) < 300
    assert message.isprintable()


def test_the_path_of_a_corpus_is_escaped(tmp_path: object) -> None:
    folder = f"{tmp_path}/a\x1b[2Jb"
    with pytest.raises(OSError, match="No such file") as caught:
        TokenCorpus(folder, block_size=8)
    assert str(caught.value).isprintable()
