"""YAML and JSON of strangers through the doors that read them: the value, or one named error."""

from pathlib import Path

import pytest

from hostile_texts import JSON, JSON_DOORS, YAML, YAML_DOORS, trial, write
from metro_fast._json import MOST_BYTES, parse_json
from metro_fast.cli.config import read_config
from metro_fast.errors import FormatError
from metro_fast.prompts import InstructionSet

SECONDS = 3
"""Below 1 s on an idle machine, which `python tests/support/hostile_texts.py` shows."""


@pytest.mark.parametrize("door", YAML_DOORS)
def test_hostile_yaml_is_one_named_error(tmp_path: Path, door: str) -> None:
    # The commands read by `read_config`, which has all of them.
    for name in list(YAML)[:: 6 if "--config" in door else 1]:
        path = write(tmp_path, "file.yaml", YAML[name])
        assert trial(YAML_DOORS[door], path, SECONDS) == "", name


@pytest.mark.parametrize("door", JSON_DOORS)
def test_hostile_json_is_one_named_error(tmp_path: Path, door: str) -> None:
    for name, content in JSON.items():
        path = write(tmp_path, "file.json", content)
        assert trial(JSON_DOORS[door], path, SECONDS) == "", name


def test_the_limit_of_a_json_text(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = '{"a": "' + "b" * (MOST_BYTES - 9) + '"}'
    assert parse_json(whole, "here")["a"] == "b" * (MOST_BYTES - 9)
    parse_json(whole + " ", "here", large=True)
    values = "[" + "[]," * (MOST_BYTES // 32) + "0]"
    for text, large in ((whole + " ", False), (values, False), (values, True)):
        with pytest.raises(FormatError, match=r"here: it h(as|olds) .*: (split it|if you trust)"):
            parse_json(text, "here", large=large)
    monkeypatch.setenv("METRO_FAST_MAX_DECODED_BYTES", str(64 * MOST_BYTES))
    parse_json(values, "here", large=True)
    monkeypatch.setenv("METRO_FAST_MAX_DECODED_BYTES", str(32 * MOST_BYTES))
    with pytest.raises(FormatError, match="set METRO_FAST_MAX_DECODED_BYTES"):
        parse_json(whole + " ", "here", large=True)


def test_values_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    text = "a: [1e-4, yes, on, 2020-01-01, 1:30, 1_000, 0o17, 017, 0x1F, ~, true, .5, -3]\n"
    (tmp_path / "run.yaml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_config(tmp_path / "run.yaml")["a"] == [
        *(1e-4, "yes", "on", "2020-01-01", "1:30", "1_000", 15, 17, 31, None, True, 0.5, -3)
    ]
    (tmp_path / "run.yaml").write_text("# nothing")
    assert read_config(tmp_path / "run.yaml") == {}


def test_two_escapes_of_one_character_are_whole(tmp_path: Path) -> None:
    text = '[{"id": "a", "task_type": "t", "text": "\\ud83d\\ude00"}]'
    (tmp_path / "set.json").write_text(text)
    assert InstructionSet.load(tmp_path / "set.json")[0].text == "\U0001f600"
