"""`metro-fast evaluate` with several experts, worked examples, a store, draws and logs."""

import copy
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from typer.testing import CliRunner

from metro_fast.cli import evaluate as evaluate_cli
from metro_fast.cli.evaluate import app
from metro_fast.cli.evaluate_models import model_names
from metro_fast.cli.import_log import app as import_log
from metro_fast.errors import MetroFastError
from metro_fast.experts import compress, load_expert
from metro_fast.prompts import Instruction, InstructionSet, Item, Task
from metro_fast.robustness import (
    Report,
    Study,
    evaluate,
    load_reports,
    read_lm_eval_samples,
    reference_table,
)
from metro_fast.scoring import tensor_digests

PLACES = ("paris", "rome", "oslo")
WORDINGS = [
    Instruction("which", "qa", "{{ text }} which city ?", ("t5",)),
    Instruction("choose", "qa", "choose between {{ options }} : {{ text }}"),
]


def task(name: str = "cities", split: str = "test", count: int = 12) -> Task:
    animals = ("cat", "dog", "bird", "fish")
    items = [
        Item(
            f"{split}-{n}", {"text": f"the {animals[n % 4]} sees {PLACES[n % 3]} ."}, PLACES, n % 3
        )
        for n in range(count)
    ]  # fmt: skip
    return Task(name, "qa", tuple(items), split)


@pytest.fixture
def room(tiny_t5: Any, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    """A base, three LoRAs of which two have folders of one name, one of them packed."""
    tiny_t5.save_pretrained(tmp_path / "base")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    for number, place in enumerate(("a/expert", "b/expert", "lora")):
        config = peft.LoraConfig(r=2, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
        adapted = peft.get_peft_model(copy.deepcopy(tiny_t5), config)
        torch.manual_seed(number)
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_" in name:
                    parameter.normal_(0, 0.3)
        adapted.save_pretrained(tmp_path / place)
    compress(tmp_path / "lora", density=0.5).save(tmp_path / "packed")
    task().save(tmp_path / "cities.jsonl")
    InstructionSet(WORDINGS).save(tmp_path / "words.yaml")
    return tmp_path


def run(room: Path, *options: object, output: str = "out") -> Any:
    arguments = [
        *("--model", room / "base", "--tasks", room / "cities.jsonl"),
        *("--instructions", room / "words.yaml", "--output", room / output, *options),
    ]
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_several_experts_are_models_of_their_own(
    room: Path, tiny_t5: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    load = evaluate_cli.load_model
    monkeypatch.setattr(
        evaluate_cli, "load_model", lambda name: (loads.append(name), load(name))[1]
    )
    experts = ("a/expert", "b/expert", "packed")
    options = [part for expert in experts for part in ("--expert", room / expert)]
    result = run(room, *options)
    assert result.exit_code == 0, (result.output, result.exception)
    assert len(loads) == 1
    reports = {report.model_name: report for report in load_reports(room / "out")}
    assert set(reports) == {*experts}
    for name in experts:
        base = copy.deepcopy(tiny_t5)
        expert = room / name
        adapted = load_expert(base, expert) if name == "packed" else (
            peft.PeftModel.from_pretrained(base, expert)
        )  # fmt: skip
        alone = evaluate(
            adapted, tiny_tokenizer, [task()], WORDINGS, model_name=name, model_family=name
        )
        assert [c.outcomes for c in alone.cells] == [c.outcomes for c in reports[name].cells]
        assert alone.model_hash == reports[name].model_hash
    page = (room / "out/report.html").read_text()
    assert all(name in page for name in experts)


def test_the_base_is_hashed_once(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def sha256(data: Any) -> Any:
        read.append(memoryview(data).nbytes)
        return hashlib.sha256(data)

    monkeypatch.setattr(tensor_digests, "hashlib", SimpleNamespace(sha256=sha256))
    monkeypatch.setattr(tensor_digests, "_digests", {})
    result = run(room, "--expert", room / "a/expert", "--expert", room / "b/expert")
    assert result.exit_code == 0, result.output
    sizes = [
        sum(p.stat().st_size for p in (room / folder).glob("*.safetensors"))
        for folder in ("base", "a/expert", "b/expert")
    ]
    assert 0.5 * sizes[0] < sum(read) < sum(sizes)


def test_names_are_short_and_different() -> None:
    assert model_names("runs/1/main", [], "") == ["1/main"]
    assert model_names("t5-small", [], "") == ["t5-small"]
    assert model_names("b", ["x/1/lora", "y/1/lora"], "") == ["x/1/lora", "y/1/lora"]
    assert model_names("b", ["run/checkpoint-10", "run/checkpoint-20"], "") == [
        "run/checkpoint-10", "run/checkpoint-20"
    ]  # fmt: skip
    assert model_names("b", ["hf://o/math", "hf://p/math"], "") == ["o/math", "p/math"]
    assert model_names("b", ["x"], "mine") == ["mine"]
    with pytest.raises(MetroFastError, match="--model-name is 'mine', but there are 2 experts"):
        model_names("b", ["x", "y"], "mine")
    with pytest.raises(MetroFastError, match="--expert x is given twice"):
        model_names("b", ["x", "x"], "")


def test_a_store_makes_a_second_study_free(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(room, "--store", room / "answers.db")
    assert first.exit_code == 0, (first.output, first.exception)
    assert "0 answers were known, 72 were new" in first.output

    def never(*args: Any, **keywords: Any) -> None:
        raise AssertionError("the model was asked")

    monkeypatch.setattr("metro_fast.scoring.engine.log_likelihoods", never)
    again = run(room, "--store", room / "answers.db", output="again")
    assert again.exit_code == 0, (again.output, again.exception)
    assert "72 answers were known, 0 were new" in again.output
    cells = [Report.load(room / name).cells for name in ("out", "again")]
    assert cells[0] == cells[1]


def test_worked_examples_and_draws(room: Path, tiny_t5: Any, tiny_tokenizer: Any) -> None:
    task(split="train").save(room / "train.jsonl")
    refused = run(room, "--few-shot", 2)
    assert "needs examples for task 'cities'" in str(refused.exception)
    assert not (room / "out").exists()
    refused = run(room, "--examples", room / "train.jsonl")
    assert "--examples is given without --few-shot" in str(refused.exception)
    result = run(room, "--few-shot", 2, "--examples", room / "train.jsonl", "--limit", 5)
    assert result.exit_code == 0, (result.output, result.exception)
    (report,) = load_reports(room / "out")
    assert {cell.record.shots for cell in report.cells} == {2}
    for cell in report.cells:
        assert [item.id for item in cell.items] == [item.id for item in task().draw(5)]
        assert all(prompt.input.count("sees") == 3 for prompt in cell.prompts)
    assert run(room, "--limit", 5).exit_code == 0
    assert len(load_reports(room / "out")) == 2


def test_written_answers_from_the_command_line(room: Path) -> None:
    options = ("--preset", "generate_match", "--max-new-tokens", 3, "--log-samples")
    result = run(room, *options)
    assert result.exit_code == 0, (result.output, result.exception)
    (report,) = load_reports(room / "out")
    for cell in report.cells:
        assert all(outcome.scores is None for outcome in cell.outcomes)
        assert cell.unread == sum(outcome.prediction < 0 for outcome in cell.outcomes)
        assert cell.record.protocol["max_new_tokens"] == 3
    samples = sorted((room / "out").glob("samples_*.jsonl"))
    assert len(samples) == 2
    texts = [o.text for o in read_lm_eval_samples(samples[0], model_name="x").cell.outcomes]
    assert texts in [[o.text for o in cell.outcomes] for cell in report.cells]


def test_a_log_joins_the_page_of_an_evaluation(room: Path) -> None:
    assert run(room).exit_code == 0
    lines = [
        {
            "doc_id": n,
            "doc": {"text": item.fields["text"]},
            "target": str(item.answer),
            "filter": "none",
            "acc": float(n % 3 == item.answer),
            "arguments": {
                f"gen_args_{k}": {"arg_0": "which ?", "arg_1": f" {place}"}
                for k, place in enumerate(PLACES)
            },
            "filtered_resps": [[str(-1.0 - (k != n % 3)), "False"] for k in range(3)],
        }
        for n, item in enumerate(task())
    ]
    log = room / "samples_cities_2026-01-01T10-00-00.jsonl"
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    arguments = [
        *(str(log), "--harness", "lm-eval", "--output", str(room / "out")),
        *("--instructions", str(room / "words.yaml"), "--instruction", "which"),
    ]
    without = CliRunner().invoke(import_log, arguments)
    assert "give it by --model-name" in str(without.exception)
    result = CliRunner().invoke(import_log, [*arguments, "--model-name", "theirs"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "12 of 12 taken" in result.output
    reports = {report.model_name: report for report in load_reports(room / "out")}
    assert set(reports) == {"base", "theirs"}
    assert reports["theirs"].summary("cities").mean == 1.0
    page = (room / "out/report.html").read_text()
    assert "theirs and base: task &#x27;cities&#x27;: items_hash differs" in page
    unknown = CliRunner().invoke(import_log, [*arguments[:-1], "nothing", "--model-name", "x"])
    assert "give one of choose, which" in str(unknown.exception)


def test_ranks_of_torchrun_write_what_one_process_writes(room: Path) -> None:
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}
    arguments = [
        *("--model", room / "base", "--tasks", room / "cities.jsonl", "--device", "cpu"),
        *("--instructions", room / "words.yaml", "--expert", room / "a/expert"),
        *("--expert", room / "packed"),
    ]
    for output, start in (
        ("one", ["-m", "metro_fast.cli"]),
        ("two", ["-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "metro_fast.cli"]),
    ):
        command = [sys.executable, *start, "evaluate", *map(str, arguments)]
        done = subprocess.run(
            [*command, "--output", str(room / output)],
            env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("wrote ") == 1
    files = [
        {p.relative_to(room / o): p.read_bytes() for p in (room / o).rglob("*") if p.is_file()}
        for o in ("one", "two")
    ]
    for found in files:
        del found[Path("resolved_config.yaml")]  # it names the output
    assert files[0] == files[1]


def test_a_study_of_a_base_and_its_experts(room: Path) -> None:
    options = ("--expert", room / "lora", "--expert", room / "packed", "--with-base")
    result = run(
        room,
        *options,
        "--original",
        room / "lora",
        "--seen-tasks",
        "cities",
        "--model-family",
        "t5",
    )
    assert result.exit_code == 0, (result.output, result.exception)
    cards = {card.name: card for card in Study.load(room / "out").cards}
    assert {name: card.kind for name, card in cards.items()} == {
        "base": "base", "lora": "expert", "packed": "compressed"
    }  # fmt: skip
    assert cards["packed"].references == ("base", "lora")
    assert cards["packed"].expert.density == 0.5
    assert (cards["base"].seen_tasks, cards["lora"].seen_tasks) == ((), ("cities",))
    assert cards["lora"].size > cards["base"].size > 0
    assert {card.family for card in cards.values()} == {"t5"}
    table = reference_table(Study.load(room / "out"), "original")
    assert table.column("model") == ["packed"]
    for wrong, message in (
        (("--with-base",), "--with-base does nothing without --expert"),
        (("--original", "x"), "--original does nothing without --expert"),
        ((*options, "--original", "x"), "--original is 'x', which is not given as --expert"),
        ((*options, "--merged", "x"), "--merged is 'x', which is not given as --expert"),
        ((*options, "--model-name", "m"), "there are 2 experts"),
    ):
        refused = run(room, *wrong, output="no")
        assert message in str(refused.exception)
        assert not (room / "no" / "cells").exists()
