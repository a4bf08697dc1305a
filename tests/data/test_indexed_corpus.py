"""TokenCorpus on the file pairs of Megatron-LM and fairseq, and the files that it refuses."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexed_files import header, write_fairseq, write_megatron
from metro_fast import FormatError, MetroFastError
from metro_fast.data import TokenCorpus, write_corpus

ITEMS = [[5, 6, 7], [8, 9], [2], [10, 11, 12, 13]]


def text(path, **options):
    corpus = TokenCorpus(path, block_size=1000, **options)
    return corpus[0]["input_ids"].tolist()


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "i8", "u2", "u4"])
def test_every_type_is_read(tmp_path, dtype):
    top = 127 if dtype in ("u1", "i1") else 30_000
    items = [*ITEMS, [top, 0]]
    write_fairseq(tmp_path / "a", items, dtype)
    expected = [token for item in items for token in item]
    assert text(tmp_path / "a") == expected
    if dtype != "u4":  # only fairseq has a code for it
        write_megatron(tmp_path / "b", items, [0, 2, 5], dtype)
        assert text(tmp_path / "b") == expected


def test_a_pair_is_named_by_folder_prefix_or_file(tmp_path):
    write_megatron(tmp_path / "text.v1", ITEMS, [0, 2, 4])
    named = [tmp_path, tmp_path / "text.v1", tmp_path / "text.v1.bin", tmp_path / "text.v1.idx"]
    for path in named:
        corpus = TokenCorpus(path, block_size=5)
        assert (len(corpus), corpus.num_tokens, corpus.num_documents) == (2, 10, 2)
        assert corpus.tokenizer_name == "unknown"
    write_fairseq(tmp_path / "a", [[1, 2], [3]], "i4")
    assert text(tmp_path) == [1, 2, 3, *(token for item in ITEMS for token in item)]
    assert TokenCorpus(tmp_path, block_size=5).num_documents == 3
    with pytest.raises(FileNotFoundError, match=r"text: |prefix NAME"):
        TokenCorpus(tmp_path / "text", block_size=5)
    write_corpus(tmp_path, [[1]])
    with pytest.raises(FormatError, match=r"1 \*\.ds files and 2 \*\.idx files"):
        TokenCorpus(tmp_path, block_size=5)


def test_a_separator_and_the_end_of_a_file_end_fairseq_documents(tmp_path):
    write_fairseq(tmp_path / "a", [[5, 6], [2], [7, 8], [9, 4]])
    write_fairseq(tmp_path / "b", [[5, 6], [2]])
    assert TokenCorpus(tmp_path / "a", block_size=9).num_documents == 2
    assert TokenCorpus(tmp_path, block_size=9).num_documents == 3


def test_invalid_ids_are_named_with_their_place(tmp_path):
    write_fairseq(tmp_path / "a", [[5, 6], [7, -1, 3]], "i4")
    corpus = TokenCorpus(tmp_path / "a", block_size=2)
    assert corpus[0]["input_ids"].tolist() == [5, 6]
    with pytest.raises(FormatError, match=r"a holds id -1 at token 3, expected 0 to 4294967295"):
        corpus[1]
    write_fairseq(tmp_path / "b", [[5, 2**32]], "i8")
    with pytest.raises(FormatError, match="id 4294967296 at token 1"):
        TokenCorpus(tmp_path / "b", block_size=2)[0]


def change(at, value):
    return lambda index: index[:at] + value + index[at + len(value) :]


COUNT, TABLE, LENGTHS, POINTERS, DOCUMENTS = 18, 26, 34, 50, 82


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda index: index[:-1],
            "105 bytes, but 4 entries take 74 .* for fairseq, or 106 for",
        ),
        (lambda index: index[:20], "20 bytes, expected at least the 26"),
        (lambda index: index[:9], "9 bytes, expected at least the 26"),
        (lambda index: b"", "does not start with MMIDIDX"),
        (lambda index: b"TNTIDX\0\0" + index[8:], "TNTIDX.*dataset-impl mmap"),
        (lambda index: index + b"\0" * 4, "110 bytes, but .* document table of 3"),
        (change(9, b"\2"), "version 2, expected 1"),
        (change(17, b"\6"), "type code 6, which is a float"),
        (change(17, b"\7"), "type code 7, which is a float"),
        (change(17, b"\x09"), "type code 9, expected"),
        (change(17, b"\4"), "starts entry 1 at byte 6, expected 12"),
        (change(COUNT, struct.pack("<Q", 5)), "but 5 entries take"),
        (change(COUNT, b"\xff" * 8), "but 18446744073709551615 entries take"),
        (change(TABLE, b"\xff" * 8), "document table of 18446744073709551615"),
        (change(LENGTHS, struct.pack("<i", -3)), "entry 0 a length of -3"),
        (change(LENGTHS, struct.pack("<i", 2)), "starts entry 1 at byte 6, expected 4"),
        (change(LENGTHS + 12, struct.pack("<i", 2**31 - 1)), "ends entry 3 at byte 4294967306"),
        (change(LENGTHS + 12, struct.pack("<i", 3)), "ends at byte 18, but the .bin .* 20 bytes"),
        (change(POINTERS + 8, struct.pack("<q", 4)), "starts entry 1 at byte 4, expected 6"),
        (change(POINTERS + 8, struct.pack("<q", -6)), "starts entry 1 at byte -6"),
        (change(POINTERS, struct.pack("<q", 2)), "starts entry 0 at byte 2, expected 0"),
        (change(DOCUMENTS, struct.pack("<q", 1)), "has 1 as entry 0 of its document table"),
        (change(DOCUMENTS + 8, struct.pack("<q", -2)), "has -2 as entry 1"),
        (change(DOCUMENTS + 16, struct.pack("<q", 1)), "has 1 as entry 2 .* expected 2 or more"),
        (change(DOCUMENTS + 16, struct.pack("<q", 5)), "at sequence 5, expected its 4"),
    ],
)
def test_damaged_indexes_are_named(tmp_path, damage, message):
    write_megatron(tmp_path / "a", ITEMS, [0, 2, 4])
    index = tmp_path / "a.idx"
    index.write_bytes(damage(index.read_bytes()))
    with pytest.raises(FormatError, match=message):
        TokenCorpus(tmp_path / "a", block_size=5)


def test_a_missing_or_empty_half_is_named(tmp_path):
    write_fairseq(tmp_path / "a", ITEMS)
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(FormatError, match=r"a\.bin|the \.bin file beside it has 0 bytes"):
        TokenCorpus(tmp_path, block_size=5)
    (tmp_path / "a.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.bin"):
        TokenCorpus(tmp_path, block_size=5)
    (tmp_path / "a.bin").touch()
    (tmp_path / "a.idx").write_bytes(header(8) + struct.pack("<Q", 0))
    with pytest.raises(FormatError, match="has no tokens"):
        TokenCorpus(tmp_path, block_size=5)
    (tmp_path / "a.idx").write_bytes(header(8) + struct.pack("<QQ", 0, 0))
    with pytest.raises(FormatError, match="document table without entries"):
        TokenCorpus(tmp_path, block_size=5)


@given(
    flips=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 7)), min_size=1, max_size=3),
    cut=st.integers(0, 12),
    megatron=st.booleans(),
    blocks=st.sampled_from(["none", "complete", "complete_doc", "eos", "pack"]),
)
def test_flipped_bits_are_read_or_refused_never_a_panic(
    tmp_path_factory, flips, cut, megatron, blocks
):
    folder = tmp_path_factory.mktemp("flipped")
    if megatron:
        write_megatron(folder / "a", ITEMS, [0, 2, 4], "i4")
    else:
        write_fairseq(folder / "a", ITEMS, "i4")
    index = bytearray((folder / "a.idx").read_bytes())
    for at, bit in flips:
        index[at % len(index)] ^= 1 << bit
    (folder / "a.idx").write_bytes(index[: len(index) - cut])
    try:
        corpus = TokenCorpus(folder, block_size=3, blocks=blocks, segment_ids=True)
        for block in range(len(corpus)):
            assert len(corpus[block]["segment_ids"]) == len(corpus[block]["input_ids"])
    except MetroFastError:
        pass  # a FormatError, or a table that leaves no block


def test_datatrove_ends_are_checked_whole(tmp_path):
    write_corpus(tmp_path, [[1, 2], [3], [4, 5]], name="a")
    index = tmp_path / "a.ds.index"
    index.write_bytes(struct.pack("<3Q", 4, 3, 5))
    with pytest.raises(FormatError, match="document 1 at token 3, before its start at token 4"):
        TokenCorpus(tmp_path, block_size=5)
    index.write_bytes(struct.pack("<3Q", 2, 9, 5))
    with pytest.raises(FormatError, match="document 2 at token 5, before its start at token 9"):
        TokenCorpus(tmp_path, block_size=5)
    index.write_bytes(struct.pack("<3Q", 2, 2, 5))  # an empty document counts
    assert TokenCorpus(tmp_path, block_size=5).num_documents == 3


def test_files_of_different_widths_form_one_text(tmp_path):
    write_fairseq(tmp_path / "a", [[1, 2, 3]], "u1")
    write_fairseq(tmp_path / "b", [[70_000, 5]], "i4")
    assert text(tmp_path) == [1, 2, 3, 70_000, 5]
    ids = TokenCorpus(tmp_path, block_size=2)[1]["input_ids"]
    assert ids.dtype == np.int64
    assert ids.tolist() == [3, 70_000]
