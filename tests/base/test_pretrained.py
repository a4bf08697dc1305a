"""Loading models and tokenizers: an unsuitable folder is named before transformers guesses."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metro_fast._pretrained import load_seq2seq, load_tokenizer
from metro_fast.errors import FormatError


@pytest.fixture
def folder(tiny_t5: Any, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    tiny_t5.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_what_was_saved_is_loaded(folder: Path, tiny_tokenizer: Any) -> None:
    assert load_seq2seq(str(folder)).config.vocab_size == len(load_tokenizer(folder))


def test_a_checkpoint_without_a_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="holds no tokenizer"):
        load_tokenizer(folder)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c", Path("nowhere")])
@pytest.mark.parametrize("load", [load_seq2seq, load_tokenizer])
def test_a_path_is_not_looked_up_on_the_hub(load: Any, name: str | Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load(name)


@pytest.mark.parametrize("load", ["load_seq2seq", "load_causal", "load_model", "load_tokenizer"])
def test_a_hub_that_does_not_answer_is_asked_once(load: str) -> None:
    # Port 9 refuses at once; transformers alone asked eleven times, for 50 seconds.
    code = f"from metro_fast._pretrained import {load}; {load}('nobody/nothing')"
    outside = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=outside, capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert "OSError: nobody/nothing is not a folder here, and http://127.0.0.1:9 cannot" in last
    assert "Retrying" not in done.stderr


def test_other_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        load_seq2seq(tmp_path)
    with pytest.raises(NotADirectoryError, match=r"config\.json is a file"):
        load_seq2seq(folder / "config.json")
    (folder / "config.json").write_text(json.dumps({"model_type": "metro"}))
    with pytest.raises(FormatError, match=r"its plain T5 is .*main"):
        load_seq2seq(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(FormatError, match="is not an encoder-decoder"):
        load_seq2seq(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer_config.json"])
def test_damaged_files_are_one_error(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:40])
    load = load_tokenizer if name.startswith("tokenizer") else load_seq2seq
    with pytest.raises(FormatError, match=r"not JSON|cannot be loaded"):
        load(folder)
