"""Collators take the same rows from lists, arrays, columns and Arrow, and give the same batch."""

import pickle

import numpy as np
import pytest
import torch

from metro_fast import MetroFastError
from metro_fast.data import DataCollatorForMetro, DataCollatorForSpanCorruption, DataCollatorForUL2

pa = pytest.importorskip("pyarrow")

SPAN = {"sentinel_first": 999, "eos_token_id": 1, "pad_token_id": 0}
COLLATORS = {
    "span": lambda **o: DataCollatorForSpanCorruption(**SPAN, **o),
    "ul2": lambda **o: DataCollatorForUL2(mode_tokens=None, **SPAN, **o),
    "metro": lambda **o: DataCollatorForMetro(
        mask_token_id=3, vocab_size=1000, pad_token_id=0, **o
    ),
}


def rows(lengths):
    random = np.random.default_rng(0)
    return [random.integers(100, 900, length) for length in lengths]


def sources(lengths, named=True):
    """The same rows in every form that a collator takes."""
    arrays = rows(lengths)
    lists = [row.tolist() for row in arrays]
    names = {"sample_id": list(range(len(lengths)))} if named else {}
    yield (
        "mappings",
        [{"input_ids": row, **({"sample_id": i} if named else {})} for i, row in enumerate(lists)],
    )
    yield "columns of lists", {"input_ids": lists, **names}
    for kind in (pa.int64(), pa.int32(), pa.uint16()):
        table = pa.table({"input_ids": pa.array(lists, pa.list_(kind)), **names})
        yield f"table of {kind}", table
        yield f"record batch of {kind}", table.to_batches()[0]
    halves = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    yield "table of chunks", halves
    large = pa.table({"input_ids": pa.array(lists, pa.large_list(pa.int64())), **names})
    padded = pa.concat_tables([large.slice(0, 1), large])
    yield "slice of a large list", padded.slice(1)
    if len(set(lengths)) == 1:
        matrix = np.stack(arrays)
        yield "columns of a matrix", {"input_ids": matrix, **names}
        yield (
            "columns of tensors",
            {
                "input_ids": torch.from_numpy(matrix),
                **{name: torch.tensor(values) for name, values in names.items()},
            },
        )
        fixed = pa.FixedSizeListArray.from_arrays(matrix.reshape(-1), lengths[0])
        yield "fixed lists", pa.table({"input_ids": fixed, **names})
        if not named:
            yield "matrix", matrix
            yield "tensor", torch.from_numpy(matrix)
            yield "unsigned matrix", matrix.astype(np.uint16)
            yield "matrix that is not contiguous", np.asfortranarray(matrix)
    if not named:
        yield "lists", lists
        yield "arrays", arrays
        yield "list array", pa.array(lists)


@pytest.mark.parametrize("name", COLLATORS)
@pytest.mark.parametrize("lengths", [(40, 40, 40), (40, 7, 1)])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.filterwarnings("ignore:the batch has no sample_id")
def test_every_form_gives_the_same_batch(name, lengths, named):
    expected = None
    for form, batch in sources(lengths, named):
        collator = COLLATORS[name](seed=2)
        collator.set_epoch(0)
        found = collator(batch)
        if expected is None:
            expected = found
        assert found.keys() == expected.keys()
        for key in found:
            assert found[key].equal(expected[key]), (form, key)


@pytest.mark.parametrize("name", COLLATORS)
@pytest.mark.parametrize("lengths", [(40, 40, 40), (40, 7, 30)])
def test_long_rows_are_cut_in_every_form(name, lengths):
    short = [row[:20] for row in rows(lengths)]
    features = [{"input_ids": row, "sample_id": i} for i, row in enumerate(short)]
    expected = COLLATORS[name]()(features)
    for form, batch in sources(lengths):
        found = COLLATORS[name](max_length=20)(batch)
        assert all(found[key].equal(expected[key]) for key in found), form


@pytest.mark.parametrize("name", COLLATORS)
def test_collators_survive_pickling(name):
    collator = COLLATORS[name](seed=5)
    collator.set_epoch(2)
    copy = pickle.loads(pickle.dumps(collator))
    _, batch = next(iter(sources((30, 30))))
    expected, found = collator(batch), copy(batch)
    assert all(found[key].equal(expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (pa.table({"ids": [[5]]}), MetroFastError, r"\['ids'\], expected 'input_ids'"),
        (pa.table({"input_ids": [["a"]]}), TypeError, "expected lists of integers"),
        (pa.table({"input_ids": [5]}), TypeError, "expected lists of integers"),
        (pa.table({"input_ids": [[5], None]}), MetroFastError, "1 rows of the batch are null"),
        (pa.table({"input_ids": [[5, None]]}), MetroFastError, "1 tokens of the batch are null"),
        (pa.table({"input_ids": [[5], []]}), MetroFastError, "row 1 is empty"),
        (pa.table({"input_ids": [[5]], "sample_id": [-1]}), MetroFastError, "row 0 is -1"),
        (pa.array([], pa.list_(pa.int64())), MetroFastError, "0 rows"),
    ],
)
def test_bad_arrow_is_named(batch, error, message):
    with pytest.raises(error, match=message):
        COLLATORS["span"]()(batch)


def test_arrow_is_read_without_a_copy():
    from metro_fast.data.arrow import read_arrow

    values = np.arange(100, 160)
    lists = pa.ListArray.from_arrays(np.array([0, 20, 60], np.int32), values)
    ids, offsets, _ = read_arrow(lists)
    assert offsets.tolist() == [0, 20, 60]
    assert np.shares_memory(ids, values)


def test_a_keyword_of_a_value_is_named_with_its_home():
    with pytest.raises(
        TypeError,
        match=r"DataCollatorForSpanCorruption takes no keyword num_sentinels: "
        r"give vocabulary=Vocabulary\(num_sentinels=\.\.\.\)",
    ):
        DataCollatorForSpanCorruption(
            sentinel_first=9, eos_token_id=1, pad_token_id=0, num_sentinels=3
        )
    with pytest.raises(TypeError, match=r"DataCollatorForMetro takes no .* count: give masking"):
        DataCollatorForMetro(mask_token_id=3, vocab_size=9, pad_token_id=0, count="electra")


@pytest.mark.filterwarnings("ignore:the batch has no sample_id")
@pytest.mark.parametrize("name", COLLATORS)
def test_columns_of_pandas_and_masks_of_bfloat16_are_read(name):
    """`frame["input_ids"].values` is an array of objects."""
    rows = [[30, 31, 32, 33], [34, 35]]
    expected = COLLATORS[name]()({"input_ids": rows})
    objects = np.empty(2, object)
    objects[:] = [np.array(row) for row in rows]
    padded = {
        "input_ids": torch.tensor([rows[0], [*rows[1], 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bfloat16),
    }
    for batch in ({"input_ids": objects}, padded):
        found = COLLATORS[name]()(batch)
        assert all(found[key].equal(expected[key]) for key in expected)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", COLLATORS)
def test_arrays_whose_meaning_would_be_lost_are_refused(name):
    """A masked array lost its mask, and its padding became text."""
    ids, mask = np.array([[30, 31, 32, 0]]), np.array([[0, 0, 0, 1]])
    masked = np.ma.masked_array(ids, mask)
    nested = torch.nested.nested_tensor([torch.tensor([30, 31]), torch.tensor([32])])
    for batch in (masked, {"input_ids": masked}, [masked[0]], [{"input_ids": masked[0]}]):
        with pytest.raises(TypeError, match="is a masked array, expected a plain one"):
            COLLATORS[name]()(batch)
    for batch in (nested, {"input_ids": nested}):
        with pytest.raises(TypeError, match=r"is a nested tensor.* \.unbind\(\)"):
            COLLATORS[name]()(batch)
