"""YAML and JSON of strangers through the doors that read them: the value, or one named error."""

import time
from pathlib import Path

import pytest

from metro_fast.cli.config import read_config
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts import InstructionSet, Task
from metro_fast.prompts.importers import import_promptsource

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{n}: &{n} [{','.join([f'*{before}'] * 9)}]\n"
    for before, n in zip("abcdefgh", "bcdefghi", strict=True)
)

YAML: dict[str, str | bytes] = {
    "alias bomb": BOMB,
    "alias of itself": "a: &a [*a]",
    "unknown alias": "a: *" + "b" * 1_000_000,
    "lists": "a: " + "[" * 100_000,
    "closed lists": "a: " + "[" * 5000 + "]" * 5000,
    "objects": "a: " + "{a: " * 100_000,
    "nested dashes": "- " * 100_000,
    "key given twice": "a: 1\na: 2",
    "merge key": "a: &a {x: 1}\nb: {<<: *a}",
    "a list as a key": "? [a]\n: 1",
    "python object": "a: !!python/object/apply:os.system [true]",
    "tagged number": "a: !!int x",
    "tagged set": "a: !!set {x}",
    "own tag": "a: !nosuch 1",
    "integer of 5,000 digits": "a: " + "1" * 5000,
    "1e400": "a: 1e400",
    "infinity": "a: .inf",
    "not a number": "a: .nan",
    "half of a pair": 'a: "\\ud800"',
    "NUL": "a: \0",
    "invalid UTF-8": b"a: \xff",
    "UTF-16": "a: 1".encode("utf-16"),
    "tab": "a:\n\tb: 1",
    "several documents": "a: 1\n---\nb: 2",
    "text not closed": 'a: "b',
    "many values": "a: [" + "1," * 1_000_000 + "]",
    "17 MB": "a: " + "b" * 17_000_000,
    "a list": "- a",
    "a text": "a",
}


@pytest.mark.parametrize("name", YAML)
def test_hostile_yaml_is_one_named_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file.yaml"
    content = YAML[name]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for read in (read_config, InstructionSet.load, import_promptsource):
        start = time.perf_counter()
        with pytest.raises(MetroFastError) as caught:
            read(path)
        assert len(str(caught.value)) < 500 + len(str(path))
        assert time.perf_counter() - start < 3  # below 1 s on an idle machine


def test_values_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    text = "a: [1e-4, yes, on, 2020-01-01, 1:30, 1_000, 0o17, 017, 0x1F, ~, true, .5, -3]\n"
    (tmp_path / "run.yaml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_config(tmp_path / "run.yaml")["a"] == [
        *(1e-4, "yes", "on", "2020-01-01", "1:30", "1_000", 15, 17, 31, None, True, 0.5, -3)
    ]
    (tmp_path / "run.yaml").write_text("# nothing")
    assert read_config(tmp_path / "run.yaml") == {}


JSON: dict[str, str | bytes] = {
    "lists": "[" * 100_000,
    "closed lists": "[" * 500 + "]" * 500,
    "objects": '{"a":' * 100_000,
    "key given twice": '{"id": "1", "id": "2"}',
    "integer of 5,000 digits": '{"id": ' + "1" * 5000 + "}",
    "integer of 301 digits": '{"id": ' + "1" * 301 + "}",
    "1e400": '{"id": 1e400}',
    "NaN": '{"id": NaN}',
    "-Infinity": '{"id": -Infinity}',
    "half of a pair": '{"id": "\\ud800"}',
    "half of a pair as a key": '{"\\udfff": 1}',
    "NUL": '{"id": "\0"}',
    "invalid UTF-8": b'{"id": "\xff"}',
    "UTF-16": '{"id": 1}'.encode("utf-16"),
    "a text": '"' + "a" * 1_000_000 + '"',
    "two values": "{} {}",
}


@pytest.mark.parametrize("name", JSON)
def test_hostile_json_is_one_named_error(tmp_path: Path, name: str) -> None:
    content = JSON[name]
    path = tmp_path / "file.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for read in (InstructionSet.load, Task.load):
        with pytest.raises(FormatError) as caught:
            read(path)
        assert len(str(caught.value)) < 500 + len(str(path))


def test_two_escapes_of_one_character_are_whole(tmp_path: Path) -> None:
    text = '[{"id": "a", "task_type": "t", "text": "\\ud83d\\ude00"}]'
    (tmp_path / "set.json").write_text(text)
    assert InstructionSet.load(tmp_path / "set.json")[0].text == "\U0001f600"
