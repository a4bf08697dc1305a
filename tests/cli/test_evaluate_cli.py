"""`metro-fast evaluate` on a causal model in a wrapper, from the command line to the results."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metro_fast.cli.evaluate import app
from metro_fast.prompts import Instruction, InstructionSet, Item, Task
from metro_fast.robustness import Report, load_reports
from metro_fast.scoring import Engine, chat_wrapper, find_protocol
from naive_scorer import WORDS, causal_model, causal_tokenizer


def test_a_causal_model_in_its_chat_template(tmp_path: Path) -> None:
    tokenizer = causal_tokenizer(WORDS)
    tokenizer.chat_template = "USER {{ messages[0]['content'] }} answer "
    model = causal_model("rotary", len(tokenizer))
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    items = [
        Item(f"{animal}-{n}", {"text": f"the {animal} sees {city}"}, ("paris", "rome", "oslo"), n)
        for animal in ("cat", "dog", "bird", "fish")
        for n, city in enumerate(("paris", "rome", "oslo"))
    ]
    Task("cities", "qa", items).save(tmp_path / "cities.jsonl")
    wordings = [Instruction("which", "qa", "{{ text }} which city")]
    InstructionSet(wordings).save(tmp_path / "words.yaml")

    options = {"model": "model", "tasks": "cities.jsonl", "instructions": "words.yaml"}
    arguments = [f"--{name}={tmp_path / file}" for name, file in options.items()]
    output = tmp_path / "out"
    result = CliRunner().invoke(
        app, [*arguments, f"--output={output}", "--preset=lm_eval", "--wrapper=chat"]
    )
    assert result.exit_code == 0, result.output
    name = f"lm_eval+{chat_wrapper(tokenizer).name}"
    (cell,) = Report.load(output).cells
    assert cell.record.preset == name
    protocol = find_protocol("lm_eval", wrapper="chat", tokenizer=tokenizer)
    prompts = [wordings[0].render(item) for item in items]
    outcomes = Engine(model, tokenizer).answer(prompts, protocol)
    assert cell.predictions == [outcome.prediction for outcome in outcomes]
    assert len(set(cell.predictions)) > 1
    (path,) = output.glob("results_*.json")
    assert name in json.dumps(json.loads(path.read_text()))

    again = CliRunner().invoke(app, [*arguments, f"--output={output}", "--preset=lm_eval"])
    assert again.exit_code == 0, again.output
    names = [f"{tmp_path.name}/model (lm_eval)", f"{tmp_path.name}/model ({name})"]
    assert sorted(report.model_name for report in load_reports(output)) == sorted(names)
    page = (output / "report.html").read_text()
    assert all(f"On cities, {each} answers" in page for each in names)


def test_a_family_that_no_instruction_knows_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = causal_tokenizer(WORDS)
    for part in (causal_model("rotary", len(tokenizer)), tokenizer):
        part.save_pretrained(tmp_path / "model")
    Task("cities", "qa", [Item("1", {}, ("paris", "rome"), 0)]).save(tmp_path / "cities.jsonl")
    known = Instruction("known", "qa", "which city", seen_by=("flan-t5", "t0"))
    unknown = Instruction("unknown", "qa", "what city")

    def warning(words: list[Instruction], *options: str) -> str:
        caplog.clear()
        InstructionSet(words).save(tmp_path / "words.yaml")
        files = {"model": "model", "tasks": "cities.jsonl", "instructions": "words.yaml"}
        arguments = [f"--{name}={tmp_path / file}" for name, file in files.items()]
        arguments += ["--preset=lm_eval", f"--output={tmp_path / 'out'}", "--no-resume", *options]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return "\n".join(m for m in caplog.messages if "family" in m)

    text = warning([known, unknown], "--model-family=T0")
    assert "no instruction has the model family 'T0'" in text
    assert "the known ones are flan-t5, t0" in text
    assert "/model' in its seen_by" in warning([known, unknown])  # the folder's name
    assert "they name no family at all" in warning([unknown], "--model-family=t0")
    assert warning([known, unknown], "--model-family=t0") == ""
    assert warning([unknown]) == ""
