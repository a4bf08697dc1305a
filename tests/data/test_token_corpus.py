"""TokenCorpus: blocks of datatrove's files, and files that are damaged."""

import pickle
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metro_fast import FormatError, MetroFastError
from metro_fast.data import (
    CorpusLoader,
    DataCollatorForMetro,
    DataCollatorForSpanCorruption,
    TokenCorpus,
    write_corpus,
)


@pytest.fixture
def folder(tmp_path):
    """Three files, one of them empty, of 7 + 0 + 5 tokens."""
    write_corpus(tmp_path, [[10, 11, 12], [13, 14, 15, 16]], name="a")
    write_corpus(tmp_path, [], name="b")
    write_corpus(tmp_path, [[17, 18, 19, 20, 21]], name="c")
    return tmp_path


def test_files_form_one_text_in_the_order_of_their_names(folder):
    corpus = TokenCorpus(folder, block_size=5)
    assert (len(corpus), corpus.num_tokens, corpus.num_documents) == (3, 12, 3)
    assert corpus.tokenizer_name == "unknown"
    blocks = [corpus[i] for i in range(3)]
    assert [b["input_ids"].tolist() for b in blocks] == [
        [10, 11, 12, 13, 14],
        [15, 16, 17, 18, 19],
        [20, 21],
    ]
    assert [b["sample_id"] for b in blocks] == [0, 1, 2]
    assert {b["input_ids"].dtype for b in blocks} == {np.dtype(np.int64)}
    assert corpus[-1]["sample_id"] == 2
    assert len(TokenCorpus(folder, block_size=5, drop_last=True)) == 2


@given(
    sizes=st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=4),
    widths=st.lists(st.sampled_from([2, 4]), min_size=4, max_size=4),
    block=st.integers(1, 12),
    data=st.data(),
)
def test_gathers_what_numpy_slices(tmp_path_factory, sizes, widths, block, data):
    folder = tmp_path_factory.mktemp("corpus")
    total = sum(map(sum, sizes))
    text = np.random.default_rng(total).integers(0, 2**16, total)
    start = 0
    for number, documents in enumerate(sizes):
        width = widths[number]
        rows = []
        for size in documents:
            rows.append(text[start : start + size] + (2**20 if width == 4 else 0))
            text[start : start + size] = rows[-1]
            start += size
        write_corpus(folder, rows, name=f"{number}", token_width=width)
    if total == 0:
        with pytest.raises(FormatError, match="has no tokens"):
            TokenCorpus(folder, block_size=block)
        return
    corpus = TokenCorpus(folder, block_size=block)
    assert len(corpus) == -(-total // block)
    indices = data.draw(st.lists(st.integers(0, len(corpus) - 1), min_size=1, max_size=5))
    for index, item in zip(indices, corpus.__getitems__(indices), strict=True):
        assert item["input_ids"].tolist() == text[index * block : (index + 1) * block].tolist()


def test_with_a_collator_a_batch_comes_finished(folder):
    collator = DataCollatorForSpanCorruption(sentinel_first=200, eos_token_id=1, pad_token_id=0)
    corpus = TokenCorpus(folder, block_size=5, collator=collator)
    plain = TokenCorpus(folder, block_size=5)
    corpus.set_epoch(0)
    [finished] = corpus.__getitems__([2, 0])
    batch = collator([finished])
    expected = collator(plain.__getitems__([2, 0]))
    assert batch.keys() == expected.keys()
    assert all(batch[name].equal(expected[name]) for name in batch)
    assert batch["sample_ids"].tolist() == [2, 0]
    assert not isinstance(finished, dict), "a Trainer would take columns out of a dict"
    corpus.set_epoch(3)
    assert collator([corpus.__getitems__([0])[0]])["epoch"] == 3


def test_a_pickled_corpus_opens_its_files_itself(folder):
    copy = pickle.loads(pickle.dumps(TokenCorpus(folder, block_size=5)))
    assert copy[1]["input_ids"].tolist() == [15, 16, 17, 18, 19]


def test_files_are_written_whole_with_the_usual_permissions(tmp_path):
    write_corpus(tmp_path / "new", [[1, 2]], token_width=4, tokenizer_name="mine")
    names = sorted(p.name for p in (tmp_path / "new").iterdir())
    stem = "00000_unshuffled.ds"
    assert names == [stem, f"{stem}.index", f"{stem}.metadata"]
    assert (tmp_path / "new" / stem).read_bytes() == struct.pack("<2I", 1, 2)
    assert (tmp_path / "new" / f"{stem}.index").read_bytes() == struct.pack("<Q", 2)
    assert (tmp_path / "new" / f"{stem}.metadata").read_text().startswith("mine|4\n2\n")
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "new" / stem).stat().st_mode == plain.stat().st_mode


def test_indices_outside_the_corpus_are_refused(folder):
    corpus = TokenCorpus(folder, block_size=5)
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"index is {index}, but the corpus has 3"):
            corpus[index]
    with pytest.raises(TypeError, match="indices"):
        corpus.__getitems__([0.5])


@pytest.mark.parametrize("widths", [(2, 2), (4, 4), (2, 4), (4, 2)])
@pytest.mark.parametrize("name", ["span", "metro"])
def test_a_batch_read_in_place_equals_that_of_its_items(tmp_path, widths, name):
    random = np.random.default_rng(0)
    for number, width in enumerate(widths):
        write_corpus(
            tmp_path, [random.integers(300, 900, 157)], name=f"{number}", token_width=width
        )
    if name == "span":
        collator = DataCollatorForSpanCorruption(sentinel_first=200, eos_token_id=1, pad_token_id=0)
    else:
        collator = DataCollatorForMetro(mask_token_id=3, vocab_size=1000, pad_token_id=0)
    collator.set_epoch(1)
    corpus = TokenCorpus(tmp_path, block_size=50, collator=collator)
    plain = TokenCorpus(tmp_path, block_size=50)
    order = [6, 3, 0, 5]  # The last is short; block 3 crosses the files.
    [finished] = corpus.__getitems__(order)
    expected = collator([plain[index] for index in order])
    assert finished.keys() == expected.keys()
    assert all(finished[key].equal(expected[key]) for key in expected)


def test_ids_outside_the_vocabulary_are_named(folder):
    corpus = TokenCorpus(folder, block_size=5, vocab_size=20)
    assert corpus[0]["sample_id"] == 0
    with pytest.raises(FormatError, match=r"token 21 .* vocab_size 20"):
        corpus[2]
    collator = DataCollatorForSpanCorruption(sentinel_first=200, eos_token_id=1, pad_token_id=0)
    finished = TokenCorpus(folder, block_size=5, vocab_size=20, collator=collator)
    collator.set_epoch(0)
    with pytest.raises(FormatError, match=r"token 10 of the text is 20, .* vocab_size 20"):
        finished.__getitems__([0, 2])


SHORT = DataCollatorForSpanCorruption(
    sentinel_first=99, eos_token_id=1, pad_token_id=0, max_length=4
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 0}, "block_size is 0"),
        ({"block_size": -1}, "block_size is -1"),
        ({"block_size": 13, "drop_last": True}, "holds 12 tokens"),
        (
            {"block_size": 5, "collator": SHORT},
            "block_size is 5, but the collator's max_length is 4",
        ),
    ],
)
def test_bad_options_are_named(folder, options, message):
    with pytest.raises(MetroFastError, match=message):
        TokenCorpus(folder, **options)


def edit(name, change):
    def apply(folder):
        path = folder / name
        content = change(path.read_bytes())
        path.write_bytes(content)

    return apply


def remove(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (remove("a.ds.metadata"), FileNotFoundError, "a.ds.metadata .*how many bytes a token has"),
        (remove("a.ds.index"), FileNotFoundError, "a.ds.index"),
        (edit("a.ds", lambda b: b[:-1]), FormatError, "13 bytes, but .* 7 tokens of 2 bytes"),
        (edit("a.ds", lambda b: b + b"\0\0"), FormatError, "16 bytes, but"),
        (edit("a.ds.index", lambda b: b[:-1]), FormatError, "15 bytes, expected 8 for every"),
        (edit("a.ds.index", lambda b: b[:-8]), FormatError, "ends at token 3, but .* 7 tokens"),
        (edit("a.ds.index", lambda b: b""), FormatError, "ends at token 0"),
        (
            edit("a.ds.metadata", lambda b: b"unknown|3\n7"),
            FormatError,
            '"3" bytes, expected 2 or 4',
        ),
        (edit("a.ds.metadata", lambda b: b"unknown\n7"), FormatError, "bytes per token"),
        (edit("a.ds.metadata", lambda b: b""), FormatError, "bytes per token"),
        (edit("a.ds.metadata", lambda b: b"unknown|2"), FormatError, "number of tokens"),
        (edit("a.ds.metadata", lambda b: b"unknown|2\n-7"), FormatError, "number of tokens"),
        (edit("a.ds.metadata", lambda b: b"unknown|2\n" + b"9" * 19), FormatError, "metadata says"),
        (edit("a.ds.metadata", lambda b: b"unknown|2\n" + b"9" * 99), FormatError, "number of"),
        (edit("c.ds.metadata", lambda b: b"other|2\n5"), FormatError, 'tokenizer "other"'),
    ],
)
def test_damaged_files_are_named(folder, damage, error, message):
    damage(folder)
    with pytest.raises(error, match=message):
        TokenCorpus(folder, block_size=5)


def test_a_missing_or_foreign_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        TokenCorpus(tmp_path / "nowhere", block_size=5)
    with pytest.raises(FormatError, match=r"holds neither \*.ds files"):
        TokenCorpus(tmp_path, block_size=5)
    (tmp_path / "a.ds").mkdir()
    (tmp_path / "a.ds.metadata").write_text("unknown|2\n0")
    with pytest.raises(FormatError, match="is a folder, expected a regular file"):
        TokenCorpus(tmp_path, block_size=5)


@pytest.mark.parametrize(
    ("documents", "options", "error", "message"),
    [
        ([[70_000]], {}, MetroFastError, "70000, expected 0 to 65535 for token_width 2"),
        ([[-1]], {}, MetroFastError, "-1 to -1"),
        ([[1]], {"token_width": 3}, MetroFastError, "token_width is 3"),
        ([[0.5]], {}, TypeError, "documents has dtype float64"),
    ],
)
def test_ids_that_do_not_fit_into_a_file_are_refused(tmp_path, documents, options, error, message):
    with pytest.raises(error, match=message):
        write_corpus(tmp_path / "new", documents, **options)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_corpus(tmp_path / "file" / "corpus", [[1]])


def test_reprs_are_one_line(folder):
    corpus = TokenCorpus(folder, block_size=5)
    assert repr(corpus) == (
        f"TokenCorpus('{folder}', block_size=5, blocks='none': 3 blocks, 12 tokens)"
    )
    loader = CorpusLoader(corpus, batch_size=2, drop_last=False)
    assert repr(loader) == (
        f"CorpusLoader({corpus!r}, batch_size=2, rank=0 of 1: step 0 of 2, epoch 0)"
    )
