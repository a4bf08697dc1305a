"""Collators give the batch of the bare rows for whatever a tokenizer gives, or refuse by name."""

from copy import copy
from itertools import product

import numpy as np
import pytest
import torch

from metro_fast import MetroFastError
from metro_fast.data import (
    DataCollatorForMetro,
    DataCollatorForSpanCorruption,
    DataCollatorForUL2,
    TokenCorpus,
    write_corpus,
)
from metro_fast.ops import Denoiser, Vocabulary, corrupt_spans, mask_tokens

pa = pytest.importorskip("pyarrow")

TEXTS = [
    "the capital of italy is rome and the river flows north",
    "a red cat sees one green bird",
    "which house is blue ?",
]
VOCABULARY = Vocabulary(sentinel_first=4, sentinel_step=1, num_sentinels=16)
COLLATORS = {
    "span": lambda t, **o: DataCollatorForSpanCorruption(t, **o),
    "ul2": lambda t, **o: DataCollatorForUL2(t, mode_tokens=None, **o),
    "prefix": lambda t, **o: DataCollatorForSpanCorruption(
        t, denoisers=Denoiser(noise="prefix", inputs="drop", targets="drop"), **o
    ),
    "metro": lambda t, **o: DataCollatorForMetro(t, **o),
}
pytestmark = pytest.mark.filterwarnings("ignore:the batch has no sample_id")


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in found:
        assert found[name].equal(expected[name]), name


def bare_rows(tokenizer, name):
    """The rows that a collator wants: METRO reads EOS as text, the others put their own."""
    return tokenizer(TEXTS, add_special_tokens=name == "metro")["input_ids"]


def columns(encoded, **more):
    """The columns of a BatchEncoding as lists."""
    return {name: list(map(list, rows)) for name, rows in encoded.items()} | more


def containers(encoded, names):
    """One encoded batch in every form; `names` are its sample ids, or None."""
    named = {} if names is None else {"sample_id": names}
    lists = columns(encoded, **named)
    yield "columns of lists", lists
    yield (
        "mappings of lists",
        [{name: column[row] for name, column in lists.items()} for row in range(len(TEXTS))],
    )
    if names is None:
        yield "BatchEncoding", encoded
        for kind in ("pt", "np"):
            yield f"{kind} of a tokenizer", copy(encoded).convert_to_tensors(kind)
    for kind, convert in {"tensors": torch.tensor, "arrays": np.array, "bytes": np.uint8}.items():
        yield f"columns of {kind}", {name: convert(column) for name, column in lists.items()}
        yield (
            f"mappings of {kind}",
            [
                {name: convert(column[row]) for name, column in lists.items()}
                for row in range(len(TEXTS))
            ],
        )
    signed = {name: np.int64(column).tolist() for name, column in lists.items()}
    yield "Arrow table", pa.table(signed)
    yield "Arrow record batch", pa.table(signed).to_batches()[0]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", COLLATORS)
@pytest.mark.parametrize("named", [True, False])
def test_padded_rows_give_the_batch_of_bare_rows(tiny_tokenizer, name, side, named):
    names = [7, 8, 9] if named else None
    rows = bare_rows(tiny_tokenizer, name)
    bare = {"input_ids": rows} | ({"sample_id": names} if named else {})
    expected = COLLATORS[name](tiny_tokenizer, seed=3)(bare)
    assert expected["num_encoder_tokens"] == expected["attention_mask"].sum()
    extras = {"return_special_tokens_mask": True, "return_token_type_ids": True}
    for special, more, multiple in product((True, False), ({}, extras), (None, 16)):
        encoded = tiny_tokenizer(
            TEXTS,
            padding=True,
            padding_side=side,
            pad_to_multiple_of=multiple,
            add_special_tokens=special or name == "metro",
            **more,
        )
        for form, batch in containers(encoded, names):
            found = COLLATORS[name](tiny_tokenizer, seed=3)(batch)
            assert found.keys() == expected.keys(), form
            for key in found:
                assert found[key].equal(expected[key]), (form, special, multiple, key)


@pytest.mark.parametrize("name", COLLATORS)
def test_the_encodings_of_the_tokenizers_package_are_rows(tiny_tokenizer, name):
    expected = COLLATORS[name](tiny_tokenizer)(bare_rows(tiny_tokenizer, name))
    encoded = tiny_tokenizer(TEXTS, padding=True)
    assert_equal(COLLATORS[name](tiny_tokenizer)(encoded.encodings), expected)


@pytest.mark.parametrize("name", COLLATORS)
def test_a_dataset_and_all_its_formats_are_rows(tiny_tokenizer, name):
    datasets = pytest.importorskip("datasets")
    expected = COLLATORS[name](tiny_tokenizer)(bare_rows(tiny_tokenizer, name))
    encoded = columns(tiny_tokenizer(TEXTS, padding=True), labels=[None] * 3, text=TEXTS)
    rows = datasets.Dataset.from_dict(encoded)
    for kind in (None, "torch", "numpy", "arrow", "pandas"):
        form = rows.with_format(kind)
        for batch in (form[:], *([form] if kind in (None, "torch", "numpy") else [])):
            assert_equal(COLLATORS[name](tiny_tokenizer)(batch), expected)


@pytest.mark.parametrize("name", COLLATORS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_max_length_counts_no_padding(tiny_tokenizer, name, side):
    short = [row[:5] for row in tiny_tokenizer(TEXTS, add_special_tokens=False)["input_ids"]]
    expected = COLLATORS[name](tiny_tokenizer)(short)
    padded = tiny_tokenizer(
        TEXTS, padding="max_length", max_length=24, padding_side=side, add_special_tokens=False
    )
    assert_equal(COLLATORS[name](tiny_tokenizer, max_length=5)(padded), expected)


@pytest.mark.parametrize("kind", [bool, np.float32, np.int8])
def test_a_mask_may_be_of_bools_or_floats(tiny_tokenizer, kind):
    padded = tiny_tokenizer(TEXTS, padding=True, return_tensors="np")
    expected = COLLATORS["span"](tiny_tokenizer)(bare_rows(tiny_tokenizer, "span"))
    batch = {
        "input_ids": padded["input_ids"],
        "attention_mask": padded["attention_mask"].astype(kind),
    }
    assert_equal(COLLATORS["span"](tiny_tokenizer)(batch), expected)
    if kind is bool:
        table = pa.table({name: pa.array(list(rows)) for name, rows in batch.items()})
        assert_equal(COLLATORS["span"](tiny_tokenizer)(table), expected)


@pytest.mark.parametrize("name", COLLATORS)
def test_labels_that_repeat_the_ids_are_those_of_a_language_model(tiny_tokenizer, name):
    padded = tiny_tokenizer(TEXTS, padding=True, return_tensors="np")
    ids, mask = padded["input_ids"], padded["attention_mask"]
    expected = COLLATORS[name](tiny_tokenizer)(bare_rows(tiny_tokenizer, name))
    for labels in (ids, np.where(mask, ids, -100)):
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        assert_equal(COLLATORS[name](tiny_tokenizer)(batch), expected)


ROW = [20, 21, 22, 23]


@pytest.mark.parametrize("name", COLLATORS)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"labels": [[5, 6]]}, "the rows have labels, but .* remove the column labels, or collate"),
        ({"labels": [[20, 21, 22, 24]]}, "remove the column labels"),
        ({"labels": [3]}, "remove the column labels"),
        ({"labels": np.array([3])}, "remove the column labels"),
        ({"decoder_input_ids": [ROW]}, "remove the column decoder_input_ids"),
        ({"token_type_ids": [[0, 0, 1, 1]]}, "row 0 marks a second text.*one text per row"),
        ({"attention_mask": [[1, 1, 0, 1]]}, "row 0 has a 0 between ones"),
        ({"attention_mask": [[1, 1, 2, 2]]}, "row 0 holds 2, expected 1 for a token and 0"),
        ({"attention_mask": [[0, 0, 0, 0]]}, "row 0 is 0 everywhere"),
        ({"attention_mask": [[1, 1]]}, "attention_mask of row 0 has 2 values for 4 tokens"),
        ({"attention_mask": [[1] * 4] * 2}, "attention_mask has 2 rows for 1 rows of input_ids"),
        ({"input_ids": [[*ROW, 0]]}, "row 0 of the batch ends with the pad id 0.*attention_mask"),
        ({"input_ids": [[0, *ROW]]}, "row 0 of the batch starts with the pad id 0"),
        ({"input_ids": [[0]]}, "row 0 of the batch starts with the pad id 0"),
    ],
)
def test_what_no_batch_can_keep_is_refused_by_name(tiny_tokenizer, name, columns, message):
    with pytest.raises(MetroFastError, match=message):
        COLLATORS[name](tiny_tokenizer)({"input_ids": [ROW], **columns})
    if all(isinstance(column, list) and len(column) == 1 for column in columns.values()):
        feature = {"input_ids": ROW} | {key: column[0] for key, column in columns.items()}
        with pytest.raises(MetroFastError, match=message):
            COLLATORS[name](tiny_tokenizer)([feature])


def test_some_rows_with_a_mask_and_some_without_are_refused(tiny_tokenizer):
    rows = [{"input_ids": ROW, "attention_mask": [1] * 4}, {"input_ids": ROW}]
    with pytest.raises(MetroFastError, match="1 of 2 rows of the batch have a attention_mask"):
        COLLATORS["span"](tiny_tokenizer)(rows)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"input_ids": ROW, "attention_mask": [1] * 4}, "a batch of one row is a list of one list"),
        ([{"input_ids": torch.tensor([ROW])}], "tokenize without return_tensors"),
    ],
)
def test_one_text_that_is_not_a_batch_is_refused_with_advice(tiny_tokenizer, batch, message):
    with pytest.raises(TypeError, match=message):
        COLLATORS["span"](tiny_tokenizer)(batch)


def test_the_pad_id_may_be_text_inside_a_row_and_with_a_mask_at_its_ends():
    """T5's reduce_concat_tokens drops it, and transformers failed (issue 15359)."""
    collator = DataCollatorForMetro(
        mask_token_id=3, vocab_size=30, pad_token_id=0, special_token_ids=[3]
    )
    collator.set_epoch(0)
    batch = collator({"input_ids": [[5, 0, 6], [0, 5, 0]], "attention_mask": [[1] * 3] * 2})
    assert batch["labels"].tolist() == [[5, 0, 6], [0, 5, 0]]
    assert collator([[5, 0, 6]])["labels"].tolist() == [[5, 0, 6]]


@pytest.mark.parametrize("row", [[20, 21, 22, 23], [20, 21, 22, 23, 1], [20, 21, 22, 23, 1, 1]])
def test_a_text_ends_once(row):
    """Worked out by hand: 1 of 4 tokens is noise, and the last one always is."""
    collator = DataCollatorForSpanCorruption(vocabulary=VOCABULARY)
    batch = collator([{"input_ids": row, "sample_id": 3}])
    assert batch["input_ids"].tolist() == [[20, 21, 22, 4, 1]]
    assert batch["labels"].tolist() == [[4, 23, 1]]
    assert (batch["num_encoder_tokens"], batch["num_labels"]) == (5, 3)


def test_where_padding_and_end_are_one_id_a_run_of_it_is_padding():
    """As with GPT-2's tokenizer after `tokenizer.pad_token = tokenizer.eos_token`."""
    ids = {"mask_token_id": 3, "vocab_size": 30, "pad_token_id": 1}
    metro = DataCollatorForMetro(
        vocabulary=Vocabulary(**ids, eos_token_id=1, special_token_ids=[1, 3])
    )
    span = DataCollatorForSpanCorruption(
        vocabulary=Vocabulary(sentinel_first=29, num_sentinels=4, eos_token_id=1, pad_token_id=1)
    )
    for collator in (metro, span):
        collator.set_epoch(0)
    assert metro([[5, 6, 7, 1]])["num_labels"] == 4
    for collator in (metro, span):
        with pytest.raises(MetroFastError, match="row 0 of the batch ends with the pad id 1"):
            collator([[5, 6, 7, 1, 1]])
        with pytest.raises(MetroFastError, match="row 0 of the batch starts with the pad id 1"):
            collator([[1, 1, 5, 6, 7]])
    padded = {"input_ids": [[5, 6, 7, 1, 1]], "attention_mask": [[1, 1, 1, 1, 0]]}
    assert_equal(metro(padded), metro([[5, 6, 7, 1]]))
    assert_equal(span(padded), span([[5, 6, 7]]))


def test_a_row_that_is_only_the_end_stays_a_row():
    batch = DataCollatorForSpanCorruption(vocabulary=VOCABULARY)(
        [{"input_ids": [1], "sample_id": 0}]
    )
    assert batch["labels"].tolist() == [[4, 1]]


@pytest.mark.parametrize("blocks", ["eos", "none", "complete_doc", "pack"])
@pytest.mark.parametrize("name", ["span", "ul2", "prefix"])
def test_a_document_of_a_corpus_ends_once(tmp_path, tiny_tokenizer, blocks, name):
    documents = [[*range(30, 30 + n), 1] for n in (5, 9, 1, 12)]
    write_corpus(tmp_path, documents)
    collator = COLLATORS[name](tiny_tokenizer, seed=5)
    collator.set_epoch(0)
    corpus = TokenCorpus(tmp_path, block_size=6, blocks=blocks, collator=collator)
    plain = TokenCorpus(tmp_path, block_size=6, blocks=blocks)
    [finished] = corpus.__getitems__(range(len(corpus)))
    assert_equal(collator([finished]), collator(plain.__getitems__(range(len(plain)))))
    for row in finished["labels"].tolist():
        text = [index for index in row if index != -100]
        assert text[-1] == 1
        assert text[-2:] != [1, 1] or len(text) == 2, "a block may be nothing but the end"


@pytest.mark.parametrize(("side", "row"), [("starts", [0, 0, 30, 31, 32, 1]), ("ends", [30, 1, 0])])
@pytest.mark.parametrize("name", list(COLLATORS))
def test_padded_documents_of_a_corpus_are_refused(tmp_path, tiny_tokenizer, name, side, row):
    assert tiny_tokenizer.pad_token_id == 0
    write_corpus(tmp_path / "padded", [[*range(40, 45), 1], row])
    collator = COLLATORS[name](tiny_tokenizer, seed=5)
    collator.set_epoch(0)
    corpus = TokenCorpus(tmp_path / "padded", block_size=6, blocks="eos", collator=collator)
    with pytest.raises(
        MetroFastError, match=f"row 1 of the batch {side} with the pad id 0, and a c"
    ):
        corpus.__getitems__(range(len(corpus)))
    # Inside a row the id is text, as for rows that come from no corpus.
    write_corpus(tmp_path / "inside", [[*range(40, 45), 1], [30, 0, 31, 32, 1]])
    corpus = TokenCorpus(tmp_path / "inside", block_size=6, blocks="eos", collator=collator)
    corpus.__getitems__(range(len(corpus)))


def test_where_padding_ends_texts_a_corpus_has_it_between_documents(tmp_path):
    write_corpus(tmp_path, [[*range(40, 45), 1], [30, 31, 32, 1]])
    vocabulary = Vocabulary(
        sentinel_first=4, sentinel_step=1, num_sentinels=9, pad_token_id=1, eos_token_id=1
    )
    collator = DataCollatorForSpanCorruption(vocabulary=vocabulary)
    collator.set_epoch(0)
    corpus = TokenCorpus(tmp_path, block_size=6, blocks="eos", collator=collator)
    corpus.__getitems__(range(len(corpus)))


@pytest.mark.parametrize("op", [corrupt_spans, mask_tokens])
def test_an_op_takes_no_mask_and_says_what_it_takes(op):
    options = {} if op is corrupt_spans else {"mask_token_id": 3, "vocab_size": 40}
    ids = np.array([[20, 21, 22, 0], [20, 21, 0, 0]])
    with pytest.raises(TypeError, match=r"attention_mask is a ndarray.*ids and give offsets"):
        op(ids, attention_mask=ids > 0, **options)
    batch = op(ids[ids > 0], offsets=[0, 3, 5], attention_mask=True, **options)
    lengths = batch.input_lengths if op is corrupt_spans else batch.lengths
    assert batch.attention_mask.sum(1).tolist() == lengths.tolist()
