"""prepare: what a document is, which texts are left out, and how that is counted."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metro_fast.cli.prepare import app
from metro_fast.data import TokenCorpus, finish_prepare, prepare, prepare_pipeline, read_texts
from metro_fast.data import train_tokenizer as train
from metro_fast.data.reading import Reading
from metro_fast.data.sources import find_sources
from metro_fast.errors import FormatError, MetroFastError

BOM = b"\xef\xbb\xbf"
TEXTS = ["one two three", "two three four five", "five six"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    words = "one two three four five six ümlaut \n \ufffd" * 3
    return train([*TEXTS, words], vocab_size=90, num_sentinels=4)


def run(inputs: Any, output: Path, tokenizer: Any, **options: Any) -> tuple[list[str], str]:
    """The documents of the corpus as text, and the last line."""
    lines: list[str] = []
    prepare(inputs, output, tokenizer, progress=False, report=lines.append, **options)
    return documents(output, tokenizer), lines[-1]


def documents(output: Path, tokenizer: Any) -> list[str]:
    ids = TokenCorpus(output, block_size=10**6)[0]["input_ids"]
    parts = tokenizer.decode(ids).split("</s>")
    return [part.removeprefix(" ") for part in parts[:-1]]


# Byte order marks.


def write_with_marks(form: str, folder: Path) -> Any:
    marked = ["\ufeff" + TEXTS[0], *TEXTS[1:]]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
    contents = {
        "txt": BOM + "\n".join(TEXTS).encode(),
        "jsonl": BOM + lines,
        "txt.gz": gzip.compress(BOM + "\n".join(TEXTS).encode()),
        "joined.txt": BOM + f"{TEXTS[0]}\n{TEXTS[1]}\n".encode() + BOM + TEXTS[2].encode(),
        "value.jsonl": b"".join(json.dumps({"text": t}).encode() + b"\n" for t in marked),
    }
    if form in contents:
        (folder / f"a.{form}").write_bytes(contents[form])
        return folder / f"a.{form}"
    import pyarrow as pa
    from datasets import Dataset
    from pyarrow import parquet

    if form == "parquet":
        parquet.write_table(pa.table({"text": marked}), folder / "a.parquet")
        return folder / "a.parquet"
    data = Dataset.from_dict({"text": marked})
    return data.to_iterable_dataset() if form == "stream" else data


@pytest.mark.parametrize(
    "form",
    ["txt", "jsonl", "txt.gz", "joined.txt", "value.jsonl", "parquet", "dataset", "stream"],
)
def test_a_byte_order_mark_is_not_a_token(form: str, tokenizer: Any, tmp_path: Path) -> None:
    found, line = run(write_with_marks(form, tmp_path), tmp_path / "out", tokenizer)
    assert found == TEXTS
    count = 2 if form == "joined.txt" else 1
    assert line.endswith(f"; changed: {count} byte order mark{'s' * (count > 1)} removed")


@pytest.mark.parametrize("per", ["file", "blank-line"])
def test_a_byte_order_mark_stands_before_any_document(
    per: str, tokenizer: Any, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(BOM + b"one\n" if per == "file" else BOM + b"\n\none\n")
    assert run(tmp_path / "a.txt", tmp_path / "out", tokenizer, document_per=per)[0] == ["one"]


# Documents.

PARAGRAPHS = "one two\nthree\n\n \t\n\nfour\n\n\nfive six\nsix\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("per", "expected"),
    [
        ("line", ["one two", "three", "four", "five six", "six"]),
        ("file", ["one two\nthree\n\n \t\n\nfour\n\n\nfive six\nsix"]),
        ("blank-line", ["one two\nthree", "four", "five six\nsix"]),
    ],
)
def test_documents_by_line_file_or_blank_line(
    per: str, expected: list[str], end: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(PARAGRAPHS.replace("\n", end).encode())
    assert list(read_texts(path, document_per=per)) == expected
    packed = tmp_path / "b.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert list(read_texts(packed, document_per=per)) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1", "shift_jis", "cp037"])
@pytest.mark.parametrize("per", ["line", "file", "blank-line"])
def test_pieces_do_not_change_documents(per: str, encoding: str, tmp_path: Path) -> None:
    """Every size of a piece gives the documents that Python's own `open` and `split` give."""
    letters = "a\N{HIRAGANA LETTER SO}b" if encoding in ("shift_jis", "utf-16") else "a\nb c"
    text = "".join(letters[i * i % len(letters)] + "\n" * (i % 7 % 4) for i in range(120))
    (tmp_path / "a.txt").write_text(text, encoding=encoding)
    whole = [text.strip("\n")] if per == "file" else re.split(r"\n{2,}", text.strip("\n"))
    if per == "line":
        whole = [line for line in text.splitlines() if line.strip()]
    for piece_bytes in (1, 2, 7, 30, 1000):
        [source] = find_sources(tmp_path / "a.txt", Reading(per, encoding))
        ranges = source.cut(piece_bytes, "text")
        assert (ranges[0][0], ranges[-1][1]) == (0, (tmp_path / "a.txt").stat().st_size)
        found = [text for cut in ranges for text in source.read(*cut, "text")]
        assert [text.strip("\n") for text in found] == [text.strip("\n") for text in whole]
    many = per != "file" and encoding in ("utf-8", "latin-1", "shift_jis")
    assert (len(source.cut(1, "text")) > 1) == many


def test_json_lines_and_tables_have_their_own_documents(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one\\n\\ntwo"}\n{"text": "three"}\n')
    with pytest.raises(MetroFastError, match=r"document_per is 'file', but no input is a \.txt"):
        run(tmp_path / "a.jsonl", tmp_path / "out", tokenizer, document_per="file")
    (tmp_path / "b.txt").write_text("four\nfive\n")
    found, _ = run(tmp_path, tmp_path / "out", tokenizer, document_per="file")
    assert found == ["one\n\ntwo", "three", "four\nfive"]


# Encodings and bad bytes.


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz"])
def test_a_text_in_another_encoding(
    encoding: str, name: str, tokenizer: Any, tmp_path: Path
) -> None:
    text = "one ümlaut\ntwo\n"
    if name == "a.jsonl":
        text = '{"text": "one ümlaut"}\n{"text": "two"}\n'
    content = text.encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    found, _ = run(tmp_path / name, tmp_path / "out", tokenizer, encoding=encoding, piece_bytes=3)
    assert found == ["one ümlaut", "two"]


def test_utf_16_without_its_name_is_named(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n", encoding="utf-16")
    with pytest.raises(FormatError, match=r"begins as UTF-16 does, give encoding='utf-16'"):
        run(tmp_path / "a.txt", tmp_path / "out", tokenizer)


def bad_input(form: str, folder: Path) -> Path:
    """Three documents, of which the second is not text."""
    bad = b"two \xff\xe2\x82 six"
    path = folder / f"bad.{form}"
    if form == "txt":
        path.write_bytes(b"one\n" + bad + b"\nthree\n")
    elif form == "txt.gz":
        path.write_bytes(gzip.compress(b"one\n" + bad + b"\nthree\n"))
    elif form == "txt.zst":
        import pyarrow as pa

        with pa.output_stream(str(path), compression="zstd") as file:
            file.write(b"one\n" + bad + b"\nthree\n")
    elif form == "jsonl":
        parts = (b'{"text": "' + text + b'"}\n' for text in (b"one", bad, b"three"))
        path.write_bytes(b"".join(parts))
    elif form == "half.jsonl":
        path.write_text('{"text": "one"}\n{"text": "two \\ud800\\ud801 six"}\n{"text": "three"}\n')
    else:
        import pyarrow as pa
        from pyarrow import parquet

        values = pa.array([b"one", bad, b"three"], pa.binary())
        kind = pa.string() if form == "parquet" else pa.large_string()
        wide = values if form == "parquet" else values.cast(pa.large_binary())
        text = pa.Array.from_buffers(kind, 3, wide.buffers())
        parquet.write_table(pa.table({"text": text}), path)
    return path


BAD_FORMS = ["txt", "txt.gz", "txt.zst", "jsonl", "half.jsonl", "parquet", "large.parquet"]


@pytest.mark.parametrize("form", BAD_FORMS)
def test_bad_text_is_an_error_or_skipped_or_replaced(
    form: str, tokenizer: Any, tmp_path: Path
) -> None:
    path = bad_input(form, tmp_path)
    with pytest.raises(FormatError, match=r"on_bad_text='skip' or 'replace' \(--on-bad-text\)"):
        run(path, tmp_path / "out", tokenizer)
    found, line = run(path, tmp_path / "skipped", tokenizer, on_bad_text="skip")
    assert found == ["one", "three"]
    assert "2 documents, " in line
    assert line.endswith("left out: 1 undecodable document")
    found, line = run(path, tmp_path / "replaced", tokenizer, on_bad_text="replace")
    # Python's own replacement: one U+FFFD for \xff, one for the cut sequence of two bytes.
    middle = b"two \xff\xe2\x82 six".decode("utf-8", "replace")
    assert middle.count("\ufffd") == 2
    assert found == ["one", middle, "three"]
    assert line.endswith("changed: 1 document with replaced bytes")


def test_bad_texts_of_datasets(tokenizer: Any, tmp_path: Path) -> None:
    from datasets import Dataset

    data = Dataset.from_parquet(str(bad_input("parquet", tmp_path)), cache_dir=str(tmp_path / "c"))
    data.save_to_disk(tmp_path / "saved")
    for number, inputs in enumerate((data, tmp_path / "saved")):
        output = tmp_path / f"out{number}"
        with pytest.raises(FormatError, match="not UTF-8"):
            run(inputs, output, tokenizer)
        assert run(inputs, output, tokenizer, on_bad_text="skip")[0] == ["one", "three"]


@pytest.mark.parametrize("form", ["parquet", "large.parquet"])
@pytest.mark.parametrize("shards", [1, 3])
def test_bad_texts_of_streams(form: str, shards: int, tokenizer: Any, tmp_path: Path) -> None:
    from datasets import Dataset, load_dataset

    path, cache = str(bad_input(form, tmp_path)), str(tmp_path / "c")
    data = Dataset.from_parquet(path, cache_dir=cache)
    streams = [data.to_iterable_dataset(num_shards=shards)]
    if shards == 1:
        files = {"data_files": path, "split": "train", "cache_dir": cache}
        streams.append(load_dataset("parquet", streaming=True, **files))
    middle = b"two \xff\xe2\x82 six".decode("utf-8", "replace")
    place = "shard 0, row 1" if shards == 1 else "shard 1, row 0"
    for number, stream in enumerate(streams):
        output = tmp_path / f"stream{number}"
        with pytest.raises(FormatError, match=rf"{place}: 'text' is not UTF-8 .*--on-bad-text"):
            run(stream, output, tokenizer)
        found, line = run(stream, output, tokenizer, on_bad_text="skip")
        assert found == ["one", "three"]
        assert line.endswith("left out: 1 undecodable document")
        replaced = tmp_path / f"replaced{number}"
        found, line = run(stream, replaced, tokenizer, on_bad_text="replace")
        assert found == ["one", middle, "three"]
        assert line.endswith("changed: 1 document with replaced bytes")
        # A step of the user's reads the rows before `prepare` can.
        mapped = stream.map(lambda row: {"text": row["text"] + " "})
        with pytest.raises(FormatError, match=r"holds a text that is not UTF-8.*give its files"):
            run(mapped, tmp_path / f"mapped{number}", tokenizer, on_bad_text="skip")


@pytest.mark.parametrize("per", ["file", "blank-line"])
def test_a_bad_byte_costs_one_document(per: str, tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\n\ntwo \xff\nthree\n\nfour\n")
    (tmp_path / "b.txt").write_bytes(b"five\n")
    options = {"document_per": per, "on_bad_text": "skip"}
    found, line = run(tmp_path, tmp_path / "out", tokenizer, **options)
    assert found == (["five"] if per == "file" else ["one", "four", "five"])
    assert "left out: 1 undecodable document" in line


# Unknown tokens.


def unknown_text(count: int) -> str:
    """Lines, of which `count` have one letter that no text of the training had."""
    return "".join("one two three \N{SNOWMAN}\n" if n < count else "one two\n" for n in range(200))


@pytest.mark.parametrize("count", [0, 1, 8])
@pytest.mark.parametrize("door", ["prepare", "pipeline", "command"])
def test_unknown_tokens_are_counted_and_many_are_warned_of(
    count: int, door: str, tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.txt").write_text(unknown_text(count))
    out, lines = tmp_path / "out", []
    if door == "prepare":
        lines.append(run(tmp_path / "a.txt", out, tokenizer, piece_bytes=300)[1])
    elif door == "pipeline":
        pipeline = prepare_pipeline(tmp_path / "a.txt", out, tokenizer)
        rows: Any = None
        for step in pipeline.steps:
            rows = step(rows, 0, 1)
        list(rows or ())
        finish_prepare(out, report=lines.append)
    else:
        tokenizer.save_pretrained(tmp_path / "t")
        arguments = ["--output", str(out), "--tokenizer", str(tmp_path / "t")]
        done = CliRunner().invoke(app, [str(tmp_path / "a.txt"), *arguments])
        assert done.exit_code == 0, done.output
        lines.append(done.output.replace("\n", " "))
    # Counted a second time, in the corpus itself.
    ids = TokenCorpus(out, block_size=10**6)[0]["input_ids"]
    found = sum(int(index == tokenizer.unk_token_id) for index in ids)
    assert found == count
    share = f"{len(ids)} tokens ({100 * found / len(ids):.2g} % unknown)"
    assert (share in lines[-1]) == (count > 0)
    assert ("% unknown" in lines[-1]) == (count > 0)
    many = found / len(ids) >= 0.01
    assert any("the tokenizer is not one for these texts" in m for m in caplog.messages) == many
    assert many == (count == 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"document_per": "page"}, "document_per is 'page', expected one of line, file, blank-l"),
        (
            {"on_bad_text": "ignore"},
            "on_bad_text is 'ignore', expected one of error, skip, replace",
        ),
        ({"encoding": "utf-9"}, "encoding is 'utf-9', expected a text encoding that Python knows"),
        ({"encoding": "rot13"}, "encoding is 'rot13', expected a text encoding"),
    ],
)
def test_wrong_values_are_named_at_every_door(
    options: dict[str, str], message: str, tokenizer: Any, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    for call in (
        lambda: run(tmp_path / "a.txt", tmp_path / "out", tokenizer, **options),
        lambda: prepare_pipeline(tmp_path / "a.txt", tmp_path / "out", tokenizer, **options),
        lambda: list(read_texts(tmp_path / "a.txt", **options)),
    ):
        with pytest.raises(MetroFastError, match=message):
            call()


def test_an_encoding_of_tables_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    path = bad_input("parquet", tmp_path)
    with pytest.raises(MetroFastError, match="encoding is 'latin-1', but no input is a"):
        run(path, tmp_path / "out", tokenizer, encoding="latin-1")


# Folders and counts.


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "texts"
    files = {
        "b.txt": "one\n\n",
        "a/x.txt": "two\n",
        "a/deep/er/y.jsonl": '{"text": "three"}\n{"text": " "}\n',
        "c/z.txt": "four\n",
        "readme.md": "# no\n",
        "a/notes.md": "# no\n",
        "Makefile": "all:\n",
        "a/table.csv": "1,2\n",
        ".git/config.txt": "no\n",
        "tok/tokenizer.json": "{}",
        "tok/vocab.txt": "no\n",
        "made/prepare.json": "{}",
        "made/log.txt": "no\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "c" / "up").symlink_to(root)
    return root


LEFT_OUT = (
    "left out: 1 .csv file, 1 .json file, 2 .md files, 1 corpus, 1 file of a tokenizer, "
    "1 file without a suffix, 1 hidden folder, 1 link to a folder around it, 2 blank documents"
)


def test_folders_are_read_at_any_depth(tree: Path, tokenizer: Any, tmp_path: Path) -> None:
    found, line = run(tree, tmp_path / "out", tokenizer)
    assert found == ["three", "two", "one", "four"]  # a/deep/er/y, a/x, b, c/z
    ids = len(TokenCorpus(tmp_path / "out", block_size=10**6)[0]["input_ids"])
    start = f"wrote {tmp_path / 'out'}: 4 files, 4 documents, {ids} tokens, "
    assert line.startswith(start)
    assert re.fullmatch(r"\d+ tokens a second; " + re.escape(LEFT_OUT), line.removeprefix(start))
    counts = json.loads((tmp_path / "out" / "prepare.json").read_bytes())["counts"]
    assert (counts["files"], counts["documents"], counts["tokens"]) == (4, 4, ids)
    assert (counts["blank"], counts["skipped .md file"]) == (2, 2)


def test_the_counts_are_those_of_any_tasks_and_of_a_finished_call(
    tree: Path, tokenizer: Any, tmp_path: Path
) -> None:
    _, line = run(tree, tmp_path / "out", tokenizer)
    again = run(tree, tmp_path / "out", tokenizer)[1]
    numbers = re.sub(r", \d+ tokens a second", "", line).partition(": ")[2]
    assert again == f"{tmp_path / 'out'} is already finished: {numbers}"
    pipeline = prepare_pipeline(tree, tmp_path / "cluster", tokenizer)
    for task in (1, 0):
        read, write = pipeline.steps
        write(read(None, task, 2), task, 2)
    lines: list[str] = []
    finish_prepare(tmp_path / "cluster", report=lines.append)
    finish_prepare(tmp_path / "cluster", report=lines.append)
    assert lines[0] == f"wrote {tmp_path / 'cluster'}: {numbers}"
    assert lines[1] == f"{tmp_path / 'cluster'} is already finished: {numbers}"
    records = [
        json.loads((tmp_path / name / "prepare.json").read_bytes()) for name in ("out", "cluster")
    ]
    assert records[0] == records[1]


def test_an_output_inside_of_the_input_is_not_its_input(tree: Path, tokenizer: Any) -> None:
    first, _ = run(tree, tree / "corpus", tokenizer)
    found, line = run(tree, tree / "corpus", tokenizer)
    assert found == first
    assert "is already finished" in line


def test_a_folder_without_texts_says_what_it_holds(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text("x")
    with pytest.raises(MetroFastError, match=r"no saved dataset \(it holds 1 \.md file\)"):
        run(tmp_path / "in", tmp_path / "out", tokenizer)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(tmp_path / "nowhere", tmp_path / "out", tokenizer)


def test_datasets_are_counted_as_such(tokenizer: Any, tmp_path: Path) -> None:
    from datasets import Dataset

    (tmp_path / "a.txt").write_text("one\n")
    inputs = [tmp_path / "a.txt", Dataset.from_dict({"text": ["two", ""]})]
    _, line = run(inputs, tmp_path / "out", tokenizer)
    assert ": 1 file, 1 dataset, 2 documents, " in line
    assert line.endswith("; left out: 1 blank document")


def test_the_command_ends_with_the_line(tree: Path, tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tree / "bad.txt").write_bytes("one ümlaut\n".encode("latin-1") + b"two\n")
    arguments = [str(tree), "--output", str(tmp_path / "out")]
    arguments += ["--tokenizer", str(tmp_path / "tokenizer")]
    options = ["--on-bad-text", "skip", "--document-per", "blank-line"]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 0, (result.output, result.exception)
    last = result.output.splitlines()[-1]
    assert ": 5 files, 4 documents, " in last
    assert "1 undecodable document" in last
    assert " tokens a second; left out: 1 .csv file" in last
    arguments[2] += "2"
    result = CliRunner().invoke(app, [*arguments, "--encoding", "latin-1"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "one ümlaut" in documents(Path(arguments[2]), tokenizer)


@pytest.mark.parametrize(
    ("flag", "other"), [("--num-sentinels", "--train-vocab"), ("--seed", "--shuffle-documents")]
)
def test_a_flag_that_does_nothing_is_refused(flag: str, other: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    arguments = [str(tmp_path / "a.txt"), "--output", "out", "--tokenizer", "x", flag, "3"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, MetroFastError)
    assert f"{flag} does nothing without {other}" in str(result.exception)


def test_work_of_another_version_is_not_continued(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    run(tmp_path / "a.txt", tmp_path / "out", tokenizer)
    record = tmp_path / "out" / "prepare.json"
    record.write_text(record.read_text().replace("metro_fast prepare 3", "metro_fast prepare 2"))
    with pytest.raises(MetroFastError, match="was made by another version of prepare"):
        run(tmp_path / "a.txt", tmp_path / "out", tokenizer)
