"""metro-fast expert compose and tune: their ratings, their files, and resuming."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from metro_fast import FormatError, MetroFastError
from metro_fast.experts import Expert, compress
from metro_fast.prompts import Instruction, InstructionSet, Item, RejectError, Task

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytest.importorskip("nevergrad")

from metro_fast.cli.expert_compose import app as compose_app
from metro_fast.cli.expert_tune import app as tune_app
from metro_fast.cli.rating import make_rating
from metro_fast.scoring import accuracy, score_choices
from metro_fast.tuning import PairLoss, read_pairs

ANSWERS = ("red", "green", "blue")


@pytest.fixture
def room(tiny_t5: Any, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    """A model, two adapters of it (one compressed), examples and a task."""
    tiny_t5.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    config = peft.LoraConfig(r=2, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
    adapted = peft.get_peft_model(copy.deepcopy(tiny_t5), config)
    for seed, name in enumerate(("one", "two")):
        generator = torch.Generator().manual_seed(seed)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3, generator=generator)
        adapted.save_pretrained(tmp_path / name)
    compress(tmp_path / "two", density=0.5).save(tmp_path / "two-packed")
    rows = [{"input": f"what is {a} ?", "target": a, "more": 1} for a in ANSWERS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    items = [Item(str(i), {"text": f"{ANSWERS[i % 3]} ."}, ANSWERS, i % 3) for i in range(6)]
    Task("colors", "color", tuple(items)).save(tmp_path / "colors.jsonl")
    InstructionSet(
        [Instruction("a", "color", "{{ text }} what ?"), Instruction("b", "color", "{{ text }}")]
    ).save(tmp_path / "words.yaml")
    return tmp_path


def run(app: Any, *arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_compose_writes_a_plain_adapter_and_continues(room: Path) -> None:
    out = room / "out"
    arguments = [room / "one", room / "two-packed", "--model", room / "model", "--out", out]
    arguments += ["--examples", room / "pairs.jsonl", "--steps", 6]
    output = run(compose_app, *arguments)
    assert "mean loss in nats per token on 3 examples" in " ".join(output.split())
    log = (out / "search.jsonl").read_text().splitlines()
    assert len(log) == 7
    rows = [json.loads(line) for line in log[1:]]
    # The written adapter has the score that the log gives the best trial, by the same loss.
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    base = AutoModelForSeq2SeqLM.from_pretrained(room / "model")
    loaded = peft.PeftModel.from_pretrained(base, out).eval()
    tokenizer = AutoTokenizer.from_pretrained(room / "model")
    loss = PairLoss(tokenizer, read_pairs(room / "pairs.jsonl"))
    best = min(rows, key=lambda r: r["score"] + 0.05 * sum(map(abs, r["weights"])) / 2)
    assert loss(loaded) == pytest.approx(best["score"], abs=1e-5)
    assert yaml.safe_load((out / "resolved_config.yaml").read_text())["steps"] == 6
    # A folder with an adapter is refused before the search.
    refused = CliRunner().invoke(compose_app, [*map(str, arguments), "--no-resume"])
    assert "contains adapter_model.safetensors already" in str(refused.exception)
    # Again, as if it had died before the adapter was written: nothing is scored. With another seed
    # the log belongs to another search.
    before = (out / "search.jsonl").read_bytes()
    weights = (out / "adapter_model.safetensors").read_bytes()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (out / name).unlink()
    run(compose_app, *arguments)
    assert (out / "search.jsonl").read_bytes() == before
    assert (out / "adapter_model.safetensors").read_bytes() == weights
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (out / name).unlink()
    refused = CliRunner().invoke(compose_app, [*map(str, arguments), "--seed", "4"])
    assert isinstance(refused.exception, MetroFastError)
    assert "its seed is 0, that of this search is 4" in str(refused.exception)
    run(compose_app, *arguments, "--seed", 4, "--no-resume", "--density", 0.5)
    assert Expert.load(out).manifest.kind == "lora"


def test_compose_by_accuracy(room: Path) -> None:
    output = run(
        compose_app, room / "one", room / "two", "--model", room / "model", "--out", room / "out",
        "--tasks", room / "colors.jsonl", "--instructions", room / "words.yaml", "--steps", 3,
    )  # fmt: skip
    assert "accuracy, mean over 2 instructions (12 questions)" in " ".join(output.split())
    first = json.loads((room / "out/search.jsonl").read_text().splitlines()[0])
    assert first["higher_is_better"] is True


def test_tune_writes_the_expert_the_table_and_the_page(room: Path) -> None:
    out = room / "out"
    arguments = [room / "one", out, "--model", room / "model", "--examples", room / "pairs.jsonl"]
    arguments += ["--densities", "0.1,0.5", "--alphas", "1,least_squares"]
    output = run(tune_app, *arguments)
    lines = (out / "tuning.csv").read_text().splitlines()
    assert len(lines) == 1 + 1 + 4
    scored = [line.split(",") for line in lines[2:]]
    best = min(scored, key=lambda row: (float(row[4]), int(row[2])))
    expert = Expert.load(out)
    assert expert.nbytes == int(best[2])
    assert f"chosen from 4 candidates: density {float(best[0]):g}" in " ".join(output.split())
    assert "Chosen: density" in (out / "tuning.html").read_text()
    assert len((out / "search.jsonl").read_text().splitlines()) == 6
    # A larger grid reuses the scores.
    before = (out / "search.jsonl").read_bytes()
    run(tune_app, *arguments[:-3], "0.1,0.3,0.5", *arguments[-2:])
    after = (out / "search.jsonl").read_bytes()
    assert after.startswith(before)
    assert len(after.splitlines()) == 8


def test_ratings_equal_those_of_the_functions(
    room: Path, tiny_t5: Any, tiny_tokenizer: Any
) -> None:
    examples, tasks = room / "pairs.jsonl", [room / "colors.jsonl"]
    rating = make_rating(
        tiny_tokenizer, examples=examples, tasks=None, instructions=None, max_input_length=64
    )
    assert rating.score(tiny_t5) == PairLoss(tiny_tokenizer, read_pairs(examples))(tiny_t5)
    rating = make_rating(
        tiny_tokenizer, examples=None, tasks=tasks, instructions=room / "words.yaml",
        max_input_length=64,
    )  # fmt: skip
    task, expected = Task.load(tasks[0]), []
    for wording in InstructionSet.load(room / "words.yaml"):
        texts = [wording.render(item).input for item in task]
        scores = score_choices(tiny_t5, tiny_tokenizer, texts, [i.choices for i in task])
        expected.append(accuracy(scores, [item.answer for item in task]))
    assert rating.score(tiny_t5) == sum(expected) / 2


def test_items_that_cannot_be_worded_are_left_out_of_ratings(
    room: Path, tiny_t5: Any, tiny_tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = room / "colors.jsonl"
    options: dict[str, Any] = {"examples": None, "tasks": [path], "max_input_length": 64}
    options["instructions"] = room / "words.yaml"
    good = Task.load(path)
    expected = make_rating(tiny_tokenizer, **options)
    more = (
        Item("twice", {"text": "red"}, ("red", "red"), 0),
        Item("free", {"text": "red"}, target="red"),
        Item("short", {}, ANSWERS, 0),
    )
    Task("colors", "color", good.items + more).save(path)
    rating = make_rating(tiny_tokenizer, **options)
    assert rating.score(tiny_t5) == expected.score(tiny_t5)
    assert rating.description == expected.description
    reasons = {"undefined field": 2, "duplicate choices": 2, "answered by free text": 2}
    assert rating.about["left_out"] == reasons
    assert "left_out" not in expected.about
    assert caplog.text.count("3 of 9 items are left out") == 2
    arguments = ["--model", room / "model", "--tasks", path, "--instructions", room / "words.yaml"]
    tune = [room / "one", room / "out", *arguments]
    compose = [room / "one", "--out", room / "out", *arguments]
    for app, given in ((tune_app, tune), (compose_app, compose)):
        result = CliRunner().invoke(app, [*map(str, given), "--strict"])
        assert isinstance(result.exception, RejectError), result.output
    output = run(compose_app, *compose, "--steps", 2)
    assert "(12 questions)" in " ".join(output.split())
    first = json.loads((room / "out/search.jsonl").read_text().splitlines()[0])
    assert first["about"]["left_out"] == reasons
    Task("colors", "color", more[1:2]).save(path)
    with pytest.raises(
        MetroFastError, match="as a choice; the first reason: answered by free text"
    ):
        make_rating(tiny_tokenizer, **options)
    with pytest.raises(RejectError, match="item 'free' has no choices: the answer is 'red'"):
        make_rating(tiny_tokenizer, **options, strict=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "either --examples or --tasks"),
        (["--examples", "pairs.jsonl", "--tasks", "colors.jsonl"], "either --examples or --tasks"),
        (["--tasks", "colors.jsonl"], "needs --instructions"),
        (["--tasks", "colors.jsonl", "--instructions", "other.yaml"], "no instruction of type"),
        (["--examples", "bad.jsonl"], 'line 1: expected {"input"'),
        (["--examples", "pairs.jsonl", "--densities", "a"], "densities are 'a'"),
        (["--examples", "pairs.jsonl", "--alphas", "a"], "alpha is 'a'"),
        (["--examples", "pairs.jsonl", "--alphas", "-1"], "alpha is -1"),
    ],
)
def test_bad_options(
    room: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(room)
    (room / "bad.jsonl").write_text('{"input": 1}\n')
    InstructionSet([Instruction("a", "re", "{{ text }}")]).save(room / "other.yaml")
    result = CliRunner().invoke(tune_app, ["one", "out", "--model", "model", *options])
    assert isinstance(result.exception, MetroFastError | FormatError), result.output
    assert message in str(result.exception)
    assert not (room / "out").exists()
