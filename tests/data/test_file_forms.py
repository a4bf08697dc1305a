"""Files that are not what their names or encodings promise are refused before they become text."""

import gzip
import lzma
import os
from pathlib import Path

import pytest

from metro_fast import FormatError, MetroFastError
from metro_fast.data import read_texts

BAD_TEXT = ("error", "skip", "replace")


def zipped(folder: Path) -> bytes:
    import zipfile

    with zipfile.ZipFile(folder / "made.zip", "w") as file:
        file.writestr("a.txt", "one\n")
    return (folder / "made.zip").read_bytes()


def zstd(folder: Path) -> bytes:
    import pyarrow as pa

    with pa.output_stream(str(folder / "made.zst"), compression="zstd") as file:
        file.write(b"one\n")
    return (folder / "made.zst").read_bytes()


PACKED = {
    "gzip": (lambda folder: gzip.compress(b"one\n"), r"gzip.*ends in \.gz"),
    "zstd": (zstd, r"zstd.*ends in \.zst"),
    "zip": (zipped, "a zip file.*unpack it"),
    "xz": (lambda folder: lzma.compress(b"one\n"), "xz.*unpack it"),
}


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz"])
@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("on_bad_text", BAD_TEXT)
def test_a_packed_file_of_another_name_is_refused(
    kind: str, name: str, on_bad_text: str, tmp_path: Path
) -> None:
    """Also one that was packed twice; `skip` gave no document, and `replace` gave noise."""
    make, message = PACKED[kind]
    content = make(tmp_path)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(FormatError, match=message):
        list(read_texts(tmp_path / name, on_bad_text=on_bad_text))


@pytest.mark.parametrize("on_bad_text", BAD_TEXT)
@pytest.mark.parametrize("written", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("read", ["utf-8", "ascii", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_byte_order_mark_of_another_encoding_is_refused(
    name: str, read: str, written: str, on_bad_text: str, tmp_path: Path
) -> None:
    """UTF-8 with `skip` gave parts with NUL between letters; UTF-16 of the other side, Chinese."""
    content = "\ufeffone\ntwo ü\n".encode(written)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    options = {"encoding": read, "on_bad_text": on_bad_text}
    if written.startswith(read):
        assert list(read_texts(tmp_path / name, **options)) == ["one", "two ü"]
        return
    named = written[:6]
    with pytest.raises(FormatError, match=f"is not {read}: it begins as UTF-.*encoding='{named}'"):
        list(read_texts(tmp_path / name, **options))


@pytest.mark.parametrize("text", ["PK", "ÿþ", "\x1f", "BZh", "\ufeff", ""])
def test_texts_that_begin_alike_are_texts(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text + "one\n", encoding="utf-8")
    assert list(read_texts(tmp_path / "a.txt")) == [text.lstrip("\ufeff") + "one"]


def test_hidden_files_of_a_folder_are_left_out_and_a_named_one_is_read(tmp_path: Path) -> None:
    """macOS writes ._a.txt, which is not text, beside a.txt; it stopped the call."""
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "._a.txt").write_bytes(b"\0\5\x16\7\0\2\xff\xfe")
    (tmp_path / ".b.txt").write_text("two\n")
    assert list(read_texts(tmp_path)) == ["one"]
    assert list(read_texts(tmp_path / ".b.txt")) == ["two"]
    (tmp_path / "a.txt").unlink()
    with pytest.raises(MetroFastError, match=r"holds 2 hidden files"):
        list(read_texts(tmp_path))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    for inputs in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(MetroFastError, match=r"a\.txt is not a regular file"):
            list(read_texts(inputs))


def test_an_empty_path_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a shell variable that is not set."""
    (tmp_path / "a.txt").write_text("one\n")
    monkeypatch.chdir(tmp_path)
    for inputs in ("", [""]):
        with pytest.raises(MetroFastError, match="an input is empty"):
            list(read_texts(inputs))
    assert list(read_texts(".")) == ["one"]
