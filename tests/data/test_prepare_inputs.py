"""prepare: every kind of input, and the same bytes for any number of tasks and workers."""

import sys

import pytest

from metro_fast import FormatError, MetroFastError, MissingExtraError
from metro_fast.data import TokenCorpus, prepare, train_tokenizer
from metro_fast.data.documents import cut_lines, read_documents
from metro_fast.data.sources import find_sources, read_texts
from prepare_cases import (
    FORMS,
    TEXTS,
    contents,
    jsonl,
    make_input,
    token_files,
    write_parquet,
)

PIECE = 300  # bytes, some lines


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, vocab_size=300, num_sentinels=10)


def run(inputs, output, tokenizer, **options):
    return prepare(inputs, output, tokenizer, progress=False, piece_bytes=PIECE, **options)


def texts_of(corpus_folder, tokenizer):
    corpus = TokenCorpus(corpus_folder, block_size=10**6)
    return [t.strip() for t in tokenizer.decode(corpus[0]["input_ids"]).split("</s>")][:-1]


@pytest.mark.parametrize("form", FORMS)
def test_tasks_change_nothing(form, tokenizer, tmp_path):
    inputs = make_input(form, tmp_path / "in")
    results = {}
    for tasks in (None, 1, 2, 3, 7):
        output = run(inputs, tmp_path / f"out{tasks}", tokenizer, tasks=tasks)
        results[tasks] = token_files(output) if form == "stream" else contents(output)
    assert all(result == results[1] for result in results.values())
    expected = TEXTS[::2] + TEXTS[1::2] if form == "selected" else TEXTS
    assert texts_of(tmp_path / "out7", tokenizer) == expected
    pieces = len([name for name in results[1] if name.endswith(".ds")])
    assert pieces == 1 if form in ("jsonl.gz", "jsonl.zst") else pieces >= 5


@pytest.mark.slow
def test_workers_change_nothing(tokenizer, tmp_path):
    """Slow: two spawned processes, which import datatrove, for each of the forms."""
    inputs = []
    for form in FORMS:
        source = make_input(form, tmp_path / form)
        inputs += source if isinstance(source, list) else [source]
    options = {"shuffle_documents": True, "seed": 3}
    one = run(inputs, tmp_path / "one", tokenizer, **options)
    two = run(inputs, tmp_path / "two", tokenizer, num_workers=2, tasks=7, **options)
    assert token_files(one) == token_files(two)
    assert sorted(texts_of(one, tokenizer)) == sorted(TEXTS * len(FORMS))


def test_each_piece_has_its_own_shuffle(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"{i:03} coins\n" for i in range(100)) * 2)
    options = {"shuffle_documents": True, "piece_bytes": 1000, "progress": False}
    one = prepare(tmp_path / "a.txt", tmp_path / "one", tokenizer, seed=1, **options)
    two = prepare(tmp_path / "a.txt", tmp_path / "two", tokenizer, seed=2, **options)
    assert sorted(token_files(one)) == sorted(token_files(two))
    texts = texts_of(one, tokenizer)
    assert sorted(texts[:100]) == sorted(texts[100:])
    assert texts[:100] != texts[100:]
    assert texts != texts_of(two, tokenizer)


def test_ranges_are_whole_lines_whatever_their_size(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"".join(b"x" * (i * i % 97) + b"\r\n" for i in range(50)) + b"end")
    whole = list(read_documents(path, "text"))
    for piece_bytes in (1, 2, 50, 99, 1000, 10**6):
        ranges = cut_lines(path, piece_bytes)
        assert [start for start, _ in ranges[1:]] == [stop for _, stop in ranges[:-1]]
        assert (ranges[0][0], ranges[-1][1]) == (0, path.stat().st_size)
        parts = [list(read_documents(path, "text", *r)) for r in ranges]
        assert [text for part in parts for text in part] == whole
    path.write_bytes(b"")
    assert cut_lines(path, 5) == [(0, 0)]


def test_an_error_names_the_line_of_the_file_and_not_of_the_piece(tokenizer, tmp_path):
    lines = jsonl(TEXTS[:20]).splitlines()
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, '{"body": 1}', *lines]))
    with pytest.raises(
        FormatError, match=r"a\.jsonl, line 21: the object has no key 'text', only \['body'\]"
    ):
        run(tmp_path / "a.jsonl", tmp_path / "out", tokenizer)
    (tmp_path / "a.txt").write_bytes("\n".join(TEXTS).encode() + b"\n\xff\n")
    with pytest.raises(FormatError, match=r"a\.txt is damaged at or after line \d+: 'utf-8'"):
        run(tmp_path / "a.txt", tmp_path / "out", tokenizer)


def test_pieces_without_documents_keep_their_files(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("\n" * 1000 + "one coin\n" + "\n" * 1000)
    (tmp_path / "b.txt").write_text("")
    for shuffle in (False, True):
        output = run(tmp_path, tmp_path / f"o{shuffle}", tokenizer, shuffle_documents=shuffle)
        assert len(list(output.glob("*.ds"))) == 8
        assert texts_of(output, tokenizer) == ["one coin"]


def test_empty_datasets_and_parquet_files(tokenizer, tmp_path):
    import pyarrow as pa
    from datasets import Dataset
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    inputs = [tmp_path / "a.parquet", Dataset.from_dict({"text": []}).cast_column("text", _text())]
    assert list(read_texts(inputs, "text")) == []
    with pytest.raises(MetroFastError, match="hold no documents"):
        run(inputs, tmp_path / "out", tokenizer)


def _text():
    from datasets import Value

    return Value("string")


@pytest.mark.parametrize("kind", ["large_string", "string_view", "dictionary"])
def test_kinds_of_string_columns(kind, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {
        "large_string": pa.large_string(),
        "string_view": pa.string_view(),
        "dictionary": pa.dictionary(pa.int32(), pa.string()),
    }
    table = pa.table({"text": pa.array(TEXTS, pa.string()).cast(kinds[kind])})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert list(read_texts(tmp_path / "a.parquet", "text")) == TEXTS


def test_columns_that_are_missing_or_not_text_are_named(tokenizer, tmp_path):
    from datasets import Dataset

    write_parquet(tmp_path / "a.parquet", TEXTS)
    data = Dataset.from_dict({"id": [1, 2], "text": ["a", None]})
    for inputs in (tmp_path / "a.parquet", data, data.to_iterable_dataset()):
        with pytest.raises(MetroFastError, match=r"has no column 'body', only \[.*give text_key"):
            run(inputs, tmp_path / "out", tokenizer, text_key="body")
    for inputs, key in ((tmp_path / "a.parquet", "pair"), (data, "id")):
        with pytest.raises(MetroFastError, match=f"column '{key}' is of type .*, expected strings"):
            run(inputs, tmp_path / "out", tokenizer, text_key=key)
    for inputs in (data, data.to_iterable_dataset()):
        with pytest.raises(FormatError, match=r"row 1: .*expected a string"):
            run(inputs, tmp_path / "out", tokenizer)


@pytest.mark.parametrize("form", ["parquet", "saved", "jsonl.zst"])
def test_damage_is_reported(form, tokenizer, tmp_path):
    path = make_input(form, tmp_path / "in")
    damaged = next(path.glob("*.arrow")) if path.is_dir() else path
    whole = damaged.read_bytes()
    for content in (b"rubbish" * 50, whole[:-9], whole[: len(whole) // 2]):
        damaged.write_bytes(content)
        with pytest.raises(FormatError, match="damaged"):
            run(path, tmp_path / "out", tokenizer)


def test_a_parquet_file_is_not_read_whole(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    text = pa.table({"text": [f"{i} " + "word " * 2000 for i in range(1000)]})
    with parquet.ParquetWriter(tmp_path / "a.parquet", text.schema, compression="none") as file:
        for _ in range(8):  # 8 groups of 10 MB
            file.write_table(text)
    [source] = find_sources(tmp_path / "a.parquet")
    assert len(source.cut(1 << 23, "text")) == 8
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() - before for _ in source.read(0, 8, "text"))
    assert most < 40e6, most  # out of 80 MB
    assert pa.total_allocated_bytes() - before < 1e6


def test_a_saved_dict_of_splits_is_refused_by_name(tokenizer, tmp_path):
    from datasets import Dataset, DatasetDict

    data = Dataset.from_dict({"text": TEXTS})
    DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "in" / "both")
    for inputs in (tmp_path / "in" / "both", tmp_path / "in"):
        with pytest.raises(MetroFastError, match="a saved DatasetDict of test, train"):
            run(inputs, tmp_path / "out", tokenizer)
    output = run(tmp_path / "in" / "both" / "train", tmp_path / "out", tokenizer)
    assert texts_of(output, tokenizer) == TEXTS


def test_a_dataset_is_identified_by_its_fingerprint(tokenizer, tmp_path):
    from datasets import Dataset

    data = Dataset.from_dict({"text": TEXTS})
    output = run(data, tmp_path / "out", tokenizer)
    before = (output / "prepare.json").stat().st_mtime_ns
    run(data, tmp_path / "out", tokenizer)
    assert (output / "prepare.json").stat().st_mtime_ns == before
    with pytest.raises(MetroFastError, match="made with other inputs"):
        run(data.select(range(5)), tmp_path / "out", tokenizer)
    stream = data.to_iterable_dataset()
    run(stream, tmp_path / "streamed", tokenizer)
    with pytest.raises(MetroFastError, match="made with other inputs"):  # it has no name
        run(stream, tmp_path / "streamed", tokenizer)


def test_another_piece_size_is_another_corpus(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    run(tmp_path / "a.txt", tmp_path / "out", tokenizer)
    with pytest.raises(MetroFastError, match="made with other inputs, other options"):
        prepare(tmp_path / "a.txt", tmp_path / "out", tokenizer, piece_bytes=PIECE + 1)


def test_too_many_pieces_are_refused(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("metro_fast.data.pieces.MOST_PIECES", 3)
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    with pytest.raises(MetroFastError, match=r"piece_bytes is 300, which gives \d+ pieces.*larger"):
        run(tmp_path / "a.txt", tmp_path / "out", tokenizer)


def test_a_missing_package_is_named(tokenizer, tmp_path, monkeypatch):
    write_parquet(tmp_path / "a.parquet", TEXTS)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'metro_fast\[data\]'"):
        run(tmp_path / "a.parquet", tmp_path / "out", tokenizer)
