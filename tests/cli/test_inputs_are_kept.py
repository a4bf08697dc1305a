"""Outputs that cannot be written, or that are an input: one line, and nothing is lost."""

import csv
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from front_door import Ended, call
from metro_fast.experts import compress
from metro_fast.experts.adapters.peft_folder import write_folder
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.prompts import Instruction, InstructionSet, Item, Task

CONFIG = {"peft_type": "LORA", "r": 4, "target_modules": ["q"], "base_model_name_or_path": "b/b"}


@pytest.fixture
def room() -> Iterator[Path]:
    """Adapters, experts, a task, wordings and a text, which any user may read."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    rng = np.random.default_rng(5)
    for name in ("one", "two"):
        raw = {}
        for factor, shape in (("A", (4, 40)), ("B", (40, 4))):
            key = f"base_model.model.layers.0.q.lora_{factor}.weight"
            raw[key] = RawTensor.of(rng.standard_normal(shape).astype(np.float32), key)
        write_folder(folder / name, raw, json.dumps(CONFIG).encode())
        compress(folder / name, density=0.5).save(folder / f"{name}-packed")
    items = [Item(str(n), {"text": "red ."}, ("red", "blue"), 0) for n in range(2)]
    Task("colors", "color", items).save(folder / "colors.jsonl")
    InstructionSet([Instruction("a", "color", "{{ text }}")]).save(folder / "words.yaml")
    (folder / "text.txt").write_text("one two\n")
    (folder / "rows.jsonl").write_text('{"answer": "red"}\n{"answer": "blue"}\n')
    (folder / "flan.json").write_text('{"rte": [["{premise}", "{answer}"]]}')
    (folder / "run").mkdir()
    (folder / "run/metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}')
    yield folder
    shutil.rmtree(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


TABLE = "prompts read rows.jsonl --kind table --task-type qa --answer answer --output"
OVER_ITSELF = [
    "expert compress one one --density 0.5",
    "expert compress one/adapter_model.safetensors one/adapter_model.safetensors",
    "expert decompress one-packed one-packed",
    "expert merge one-packed two-packed --out one-packed",
    "expert merge one two --out one",
    "expert export one-packed --out one-packed/adapter_config.json",
    "expert inspect one-packed --html one-packed/adapter_model.compeft.safetensors",
    "expert inspect one-packed --html one-packed/adapter_config.json",
    "expert inspect one-packed --adapter one --html one/adapter_model.safetensors",
    "expert similarity one-packed two-packed --csv two-packed/adapter_config.json",
    "expert similarity one-packed two-packed --html two-packed/adapter_model.compeft.safetensors",
    f"{TABLE} rows.jsonl",
    f"{TABLE} ./run/../rows.jsonl",
    "prompts import flan.json --kind flan --output flan.json",
    "curves run --output run/metrics.jsonl",
    "import-log rows.jsonl --harness lm-eval --output rows.jsonl",
    "prepare text.txt --output text.txt --tokenizer one",
]


@pytest.mark.parametrize("line", OVER_ITSELF)
def test_an_input_is_never_replaced(room: Path, line: str) -> None:
    before = contents(room)
    ended = call(*line.split(), folder=room)
    assert ended.status == 1, ended
    assert "Traceback" not in ended.stderr
    found = contents(room)
    assert {name: found.get(name) for name in before} == before


def test_a_page_in_the_folder_of_an_expert_is_written_again(room: Path) -> None:
    line = ("expert", "inspect", "one-packed", "--html", "one-packed/page.html")
    assert [call(*line, folder=room).status for _ in range(2)] == [0, 0]


READ_ONLY = [
    "expert compress one {}/out --density 0.5",
    "expert decompress one-packed {}/out",
    "expert merge one-packed two-packed --out {}/out",
    "expert export one-packed --out {}/out",
    "expert inspect one-packed --html {}/page.html",
    "expert similarity one-packed two-packed --csv {}/a.csv",
    "expert similarity one-packed two-packed --html {}/a.html",
    "expert card one-packed --write",
    f"{TABLE} {{}}/a.jsonl",
    "prompts import flan.json --kind flan --output {}/a.yaml",
    "curves run --output {}/a.html",
    "import-log rows.jsonl --harness lm-eval --output {}/out",
    "prepare text.txt --output {}/out --train-vocabulary 300",
    "evaluate --model one --tasks colors.jsonl --instructions words.yaml --output {}/out",
    "pretrain --output {}/out --data.corpus text.txt",
    "finetune --model one --tasks colors.jsonl --instructions words.yaml --output {}/out",
]


def as_nobody(line: str, folder: Path) -> Ended:
    """Run a command as a user who may write nothing; root is not asked for permissions."""
    receive, send = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        send.send(call(*line.split(), folder=folder, HOME="/nonexistent"))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    assert receive.poll(60)
    ended: Ended = receive.recv()
    process.join()
    return ended


@pytest.mark.parametrize("line", READ_ONLY)
def test_a_folder_that_cannot_be_written_is_named(room: Path, line: str) -> None:
    closed = room / "closed"
    closed.mkdir()
    before = contents(room)
    for folder in (closed, room, room / "one-packed"):
        folder.chmod(0o555)
    ended = as_nobody(line.format(closed), room)
    for folder in (closed, room, room / "one-packed"):
        folder.chmod(0o755)
    assert ended.status == 1, ended
    assert "Traceback" not in ended.stderr
    said = " ".join(ended.stderr.split())
    assert "Permission denied" in said
    assert "closed" in said or "one-packed" in said
    assert contents(room) == before


HOSTILE = ("a\n---\n", "`a`", "<script>alert(1)</script>", "a|b", "[red]a[/]", "a\x1b[2J", "=1+1")


def test_names_of_strangers_on_the_screen(room: Path) -> None:
    """Names of tasks, wordings, rejects and folders, as each command prints them."""
    names = [name.replace("/", "") for name in HOSTILE]
    items = [Item(name, {"text": "red ."}, ("red", "blue"), 0) for name in names]
    Task("a\x1b[2J[red]", "color", items).save(room / "odd.jsonl")
    wordings = [Instruction(name, "color", f"{{{{ text }}}} {name}") for name in names]
    InstructionSet(wordings).save(room / "odd.yaml")
    (room / "odd.json").write_text(json.dumps({f"{name}\x1b[2J": [["{x", 1]] for name in names}))
    for number, name in enumerate(names):
        shutil.copytree(room / "one-packed", room / name, dirs_exist_ok=number > 0)
    for line in (
        ("prompts", "check", "--tasks", "odd.jsonl", "--instructions", "odd.yaml", "--show"),
        ("prompts", "import", "odd.json", "--kind", "flan", "--output", "x.yaml"),
        *(("expert", "inspect", name) for name in names if not name.startswith("-")),
        ("expert", "similarity", *names, "--csv", "a.csv"),
    ):
        ended = call(*line, folder=room)
        assert "Traceback" not in ended.stderr
        text = (ended.stdout + ended.stderr).replace("\n", "")
        assert text.isprintable(), line
    with (room / "a.csv").open(newline="") as file:
        first = next(csv.reader(file))
    assert first == ["expert", *names[:-1], "'=1+1"]
