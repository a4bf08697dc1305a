"""Help without torch, on wide and narrow terminals, and the extras that each command needs."""

import contextlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import record_help
from front_door import call
from metro_fast.cli.needs import MODULES, NEEDS

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = dict(record_help.modules())
# Prints the help of all commands, in a process that has numpy, typer, rich and yaml only.
WITHOUT = """
import contextlib, io, json, os, sys

class Block:
    names = {blocked!r}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Block())
from metro_fast.cli import main
found = {{}}
for width in ("80", "40"):
    for line in {lines!r}:
        os.environ["COLUMNS"] = width
        sys.argv = ["metro-fast", *line.split()]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as stop:
                status = stop.code
        found[f"{{width}} {{line}}"] = [status, out.getvalue(), err.getvalue()]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def without_torch() -> Mapping[str, tuple[int, str, str]]:
    """Status and output of each command's help, and of a run, where no extra is installed."""
    blocked = sorted({module for modules in MODULES.values() for module in modules})
    lines = [f"{name} --help".strip() for name in ("", "expert", "prompts", *COMMANDS)]
    lines += ["pretrain --data.corpus c --output o", "finetune", "expert compose a --model m"]
    code = WITHOUT.format(blocked=blocked, lines=lines)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: Mapping[str, tuple[int, str, str]] = json.loads(done.stdout)
    return found


def recorded() -> dict[str, Any]:
    text = files("metro_fast.cli").joinpath("recorded_help.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize("name", ["", "expert", "prompts", *COMMANDS])
def test_every_help_works_without_torch(
    name: str, width: int, without_torch: Mapping[str, tuple[int, str, str]]
) -> None:
    status, text, error = without_torch[f"{width} {name} --help".replace("  ", " ")]
    assert (status, error) == (0, "")
    assert text.split()[:2] == ["Usage:", "metro-fast"]
    # Whole names: rich marks what it cuts with an ellipsis.
    assert "…" not in text
    if width == 40:
        long = [line for line in text.splitlines() if len(line) > 40]
        # A choice is not broken.
        assert all(line.split()[0].startswith("-") for line in long), long


@pytest.mark.parametrize("width", ["200", "80", "40"])
@pytest.mark.parametrize("group", [(), ("expert",), ("prompts",)])
def test_a_group_without_a_command_shows_its_help(group: tuple[str, ...], width: str) -> None:
    bare = call(*group, COLUMNS=width)
    asked = call(*group, "--help", COLUMNS=width)
    assert (bare.status, asked.status) == (2, 0)
    assert bare.stdout.split() == asked.stdout.split()
    assert len(bare.stdout.splitlines()) > 8


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize("module", sorted(recorded()))
def test_a_recorded_help_has_every_flag_and_choice(
    module: str, width: int, without_torch: Mapping[str, tuple[int, str, str]]
) -> None:
    (name,) = (name for name, where in COMMANDS.items() if where == module)
    text = "".join(without_torch[f"{width} {name} --help"][1].replace("│", " ").split())
    for parameter in recorded()[module]["parameters"]:
        kinds = parameter["type"] if isinstance(parameter["type"], list) else []
        for kind in (kinds, *(each for each in kinds if isinstance(each, list))):
            if kind[:1] == ["choices"]:
                assert "|".join(kind[1:]) in text
        if not parameter["argument"]:
            own = "--" + parameter["name"].replace("__", ".").replace("_", "-")
            flag = (parameter["flags"] or [own])[0].partition("/")[0]
            assert flag in text


def test_the_recorded_help_is_that_of_the_commands() -> None:
    pytest.importorskip("torch")
    assert record_help.record() == record_help.FILE.read_text(encoding="utf-8"), (
        "recorded_help.json is stale: run `python tests/support/record_help.py`"
    )


def test_a_command_without_its_packages_says_which(
    without_torch: Mapping[str, tuple[int, str, str]],
) -> None:
    status, _, error = without_torch["80 pretrain --data.corpus c --output o"]
    assert status == 1
    assert error.startswith("metro-fast: torch, transformers, accelerate, datatrove, tokenizers,")
    assert error.endswith("Install them with: pip install 'metro_fast[train]'\n")
    assert without_torch["80 finetune"][0] == 2  # a required option comes first
    assert "Missing option" in without_torch["80 finetune"][2]


@contextlib.contextmanager
def uninstalled(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[None]:
    class Block:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name.partition(".")[0] in names:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    with monkeypatch.context() as patch:
        for name in names:
            patch.delitem(sys.modules, name, raising=False)
        patch.setattr(sys, "meta_path", [Block(), *sys.meta_path])
        yield


@pytest.mark.parametrize(
    ("line", "lacks", "command"),
    [
        ("prompts check --tasks a --instructions b", "jinja2", "eval"),
        ("prompts import nli --kind own --output o.yaml", "jinja2", "eval"),
        ("prompts read x --kind lm-eval --output o", "lm_eval", "lm-eval"),
        ("expert push a b/c", "huggingface_hub", "peft"),
        ("expert inspect hf://a/b", "huggingface_hub", "peft"),
        ("expert merge hf://a/b c --out o", "huggingface_hub", "peft"),
        ("expert merge a b --out o --base m", "peft", "peft"),
        ("expert similarity a b --html o", "scipy", "eval"),
        ("prepare a --output o --tokenizer t", "datatrove", "train"),
    ],
)
def test_what_is_not_installed_is_named_before_the_work(
    line: str, lacks: str, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with uninstalled(monkeypatch, lacks):
        ended = call(*line.split(), folder=tmp_path)
    assert ended.status == 1
    assert ended.said.startswith(f"metro-fast: {lacks} is not installed, and `metro-fast ")
    assert ended.said.endswith(f"pip install 'metro_fast[{command}]'")
    assert list(tmp_path.iterdir()) == []


def test_evaluate_looks_for_scipy_before_it_scores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    line = "evaluate --model m --tasks t --instructions i --output o"
    with uninstalled(monkeypatch, "scipy"):
        ended = call(*line.split(), folder=tmp_path)
    assert ended.said == (
        "metro-fast: scipy is not installed, and `metro-fast evaluate` needs it here. Install it "
        "with: pip install 'metro_fast[eval]'"
    )


def test_the_modules_of_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]

    def modules(extra: str) -> set[str]:
        found: set[str] = set()
        for requirement in extras[extra]:
            inner = re.fullmatch(r"metro_fast\[(.+)\]", requirement)
            names = [re.split(r"[<>=\[]", requirement)[0].replace("-", "_")]
            found |= set().union(*map(modules, inner[1].split(","))) if inner else set(names)
        return found - {"filelock"}  # which torch imports, and we bound

    assert {extra: set(names) for extra, names in MODULES.items()} == {
        # Whether SentencePiece is needed shows in the files of a tokenizer, so their reader asks.
        extra: modules(extra)
        for extra in extras
        if extra not in ("all", "sentencepiece")
    }
    assert set(NEEDS) <= set(COMMANDS)


def test_python_m_is_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "metro_fast", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("metro-fast ")
