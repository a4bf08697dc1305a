"""The messages of the library in the words of `metro-fast expert`: flags, never Python."""

import ast
import importlib
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from front_door import call
from metro_fast.cli.app import load
from metro_fast.cli.expert import ExpertGroup
from metro_fast.cli.messages import translated
from metro_fast.experts import compress
from metro_fast.experts.adapters.peft_folder import write_folder
from metro_fast.experts.adapters.state_file import write_safetensors
from metro_fast.experts.adapters.tensors import RawTensor

RNG = np.random.default_rng(8)
FUNCTIONS = {
    "add_to_base", "card", "compose_fewshot", "compress", "compress_checkpoint", "decompress",
    "export", "fidelity", "make_rating", "merge", "push_to_hub", "save_plain", "similarity",
    "tune_compression", "PairLoss", "score_choices",
}  # fmt: skip
# Not of the user's making: the command decides them.
FIXED = {"about", "alpha", "fidelity", "higher_is_better", "progress"}
PARTS = {"compress": ["expert_compress_one"], "compose": ["rating"], "tune": ["rating"]}


def passed(command: str) -> list[str]:
    """The parameters that a command passes to functions of the library, read from its source."""
    modules = [ExpertGroup.table[command][0]]
    modules += [f"metro_fast.cli.{part}" for part in PARTS.get(command, [])]
    found = []
    for module in modules:
        tree = ast.parse(inspect.getsource(importlib.import_module(module)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                found += [each.arg for each in node.keywords if name in FUNCTIONS and each.arg]
    return sorted(set(found))


def said(command: str, text: str) -> str:
    """A text of the library in the words of a command."""
    context: Any = SimpleNamespace(command=load(ExpertGroup.table[command][0], command), params={})
    return translated(text, context)


@pytest.mark.parametrize("command", list(ExpertGroup.table))
def test_every_parameter_that_a_command_passes_is_a_flag_in_its_messages(command: str):
    flags = {
        flag
        for option in load(ExpertGroup.table[command][0], command).params
        for flag in option.opts
    }
    for name in passed(command):
        if name in FIXED and f"--{name}" not in flags:
            continue
        for text in (f"{name}=3", f"{name}='a'", f"{name}=", f"{name} is 3"):
            found = said(command, text)
            assert found.split()[0] in flags, (name, text, found)
            assert "=" not in found, (name, text, found)


@pytest.mark.parametrize(
    ("command", "text", "words"),
    [
        ("merge", "give the index as heads_from=", "give the index as --heads-from"),
        ("merge", "with neither rank= nor trim=", "with neither --rank nor --trim"),
        ("merge", "compress it without initial=", "compress it without --initial"),
        ("merge", "rank is 3, which needs space='delta'", "--rank is 3, which needs --space delta"),
        ("compose", "was compressed with initial= (m.q)", "was compressed with --initial (m.q)"),
        ("compose", "are different, but merge() can add", "`metro-fast expert merge` can add"),
        (
            "compose",
            "(merge with space='delta', and TIES with rank=)",
            "(`metro-fast expert merge",
        ),
        ("merge", "(merge with space='delta', and TIES with rank=)", "and TIES with --rank)"),
        ("compress", "it is compressed already: use Expert.load", "expert inspect` shows it"),
        ("compress", "those that dense= keeps whole", "those that --dense keeps whole"),
        ("inspect", "a=b is a path", "a=b is a path"),
        ("decompress", "pass initial= with m.q", "pass --initial with m.q"),
    ],
)
def test_messages_that_speak_python(command: str, text: str, words: str):
    assert words in said(command, text)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter, plain and compressed, one of names that say nothing, and odd folders."""
    folder = tmp_path_factory.mktemp("room")
    raw = {}
    for factor, shape in (("A", (4, 40)), ("B", (40, 4))):
        key = f"base_model.model.layers.0.q.lora_{factor}.weight"
        raw[key] = RawTensor.of(RNG.standard_normal(shape).astype(np.float32), key)
    write_folder(folder / "one", raw, b'{"peft_type": "LORA"}')
    compress(folder / "one", density=0.5).save(folder / "packed")
    plain = {"unet:0:down": (4, 30), "unet:0:up": (20, 4)}
    tensors = {n: RawTensor("F32", np.ones(s, np.float32)) for n, s in plain.items()}
    write_safetensors(folder / "sd.safetensors", tensors)
    start = {n: RawTensor("F32", np.zeros(s, np.float32)) for n, s in plain.items()}
    write_safetensors(folder / "start.safetensors", start)
    (folder / "empty").mkdir()
    (folder / "full" / "inner").mkdir(parents=True)
    for number in range(5):
        (folder / "full" / f"{number}.txt").touch()
    return folder


@pytest.mark.parametrize(
    ("line", "message"),
    [
        # lora is among the kinds, and meant
        (
            "compress sd.safetensors out",
            "give --kind, one of lora, ia3, prompt, full, other;",
        ),
        ("compress sd.safetensors out", "these look like lora\n"),
        ("compress packed/adapter_model.compeft.safetensors out", "expert inspect` shows it\n"),
        # folders say what is in them
        ("inspect nowhere", "there is no nowhere: expected the folder or the file of an expert\n"),
        ("inspect empty", "empty holds no compressed expert: expected adapter_model.compeft.safe"),
        ("inspect empty", "the folder is empty\n"),
        ("inspect full", "it holds 0.txt, 1.txt, 2.txt, 3.txt and 2 more\n"),
        ("inspect one", "one holds a plain adapter and not adapter_model.compeft.safetensors: com"),
        ("compress empty out", "empty holds no adapter: expected a PEFT folder (adapter_config.js"),
        ("compress full out", "it holds 0.txt, 1.txt, 2.txt, 3.txt and 2 more\n"),
        ("compress nowhere out", "there is no nowhere: expected a PEFT folder"),
        (
            "compress sd.safetensors out --base nowhere",
            "there is no nowhere: expected a .safe",
        ),
        ("decompress full out", "full holds no compressed expert"),
        ("merge packed full --out out", "full holds no compressed expert"),
        ("similarity packed full", "full holds no compressed expert"),
        ("export full --out out", "full holds no compressed expert"),
        ("card full", "full holds no compressed expert"),
        ("compress sd.safetensors out --kind lora --initial one", "--initial has base_model"),
    ],
)
def test_what_a_wrong_path_is_answered_with(room: Path, line: str, message: str):
    ended = call("expert", *line.split(), folder=room)
    assert ended.status == 1
    assert message.rstrip() in ended.said
    if message.endswith("\n"):
        assert ended.said.endswith(message.rstrip())
    assert not any(word in ended.stderr for word in ("Errno", "kind=", "Expert.load", "Traceback"))
    assert not (room / "out").exists()
