"""`--resume` with other intervals: the run continues, and learns the same."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from metro_fast._training.callbacks import HistoryCallback
from metro_fast.cli import finetune, pretrain
from metro_fast.prompts import Instruction, InstructionSet, Item, Task
from pretrain_cases import SIZES, history, rule_corpus

WORDS = ("red", "green", "blue")


def pretrain_flags(folder: Path, tokenizer: Any, model: Any) -> tuple[str, ...]:
    del model
    sizes = [part for name, size in SIZES.items() for part in (f"--model.{name}", str(size))]
    return (
        *("--data.corpus", str(rule_corpus(folder / "corpus", tokenizer))),
        *("--data.block_size", "16", "--data.evaluation_rows", "8", "--objective.name", "span"),
        *sizes,
        *("--training.max_steps", "6", "--training.per_device_train_batch_size", "8"),
        *("--training.warmup_steps", "1", "--training.learning_rate", "3e-3"),
    )


def finetune_flags(folder: Path, tokenizer: Any, model: Any) -> tuple[str, ...]:
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    items = [Item(str(i), {"text": f"{WORDS[i % 3]} ."}, WORDS, i % 3) for i in range(24)]
    Task("colors", "color", tuple(items)).save(folder / "colors.jsonl")
    wordings = [Instruction("a", "color", "{{ text }} what ?")]
    InstructionSet(wordings).save(folder / "words.yaml")
    files = {"model": "model", "tasks": "colors.jsonl", "instructions": "words.yaml"}
    files["evaluation-tasks"] = "colors.jsonl"
    return (
        *(part for name, file in files.items() for part in (f"--{name}", str(folder / file))),
        *("--steps", "6", "--batch-size", "4", "--warmup-steps", "1", "--method", "lora"),
    )


def intervals(prefix: str, evaluation: str, log: int, save: int, evaluate: int) -> tuple[str, ...]:
    return (
        *(f"--{prefix}logging_steps", str(log), f"--{prefix}save_steps", str(save)),
        *(f"--{prefix}{evaluation}_steps", str(evaluate)),
    )


CASES = (
    (pretrain, pretrain_flags, ("training.", "eval"), "main/model.safetensors"),
    (finetune, finetune_flags, ("", "evaluation"), "adapter_model.safetensors"),
)


@pytest.mark.parametrize(("command", "flags", "names", "weights"), CASES, ids=["pre", "fine"])
def test_a_run_is_resumed_with_other_intervals(
    command: Any,
    flags: Any,
    names: tuple[str, str],
    weights: str,
    tiny_tokenizer: Any,
    tiny_t5: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped after step 3 of 6, and resumed in the middle of what would have been a log line."""
    given = flags(tmp_path, tiny_tokenizer, tiny_t5)

    def run(name: str, *more: str) -> Any:
        output = ("--output", str(tmp_path / name))
        spelled = [flag if "." in flag else flag.replace("_steps", "-steps") for flag in more]
        return CliRunner().invoke(command.app, [*given, *output, *spelled])

    whole = run("whole", *intervals(*names, 1, 6, 6))
    assert whole.exit_code == 0, (whole.output, whole.exception)

    def interrupt(self: Any, args: Any, state: Any, control: Any, **kw: Any) -> None:
        if state.global_step == 2:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(HistoryCallback, "on_step_begin", interrupt)
        assert run("broken", *intervals(*names, 5, 2, 3)).exit_code != 0
    broken = tmp_path / "broken"
    assert (broken / "checkpoints" / "checkpoint-3").is_dir()
    resumed = run("broken", *intervals(*names, 1, 5, 2), "--resume")
    assert resumed.exit_code == 0, (resumed.output, resumed.exception)

    one, two = (load_file(tmp_path / name / weights) for name in ("whole", "broken"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    losses, found = (
        {line["step"]: line["loss"] for line in history(tmp_path / name) if "loss" in line}
        for name in ("whole", "broken")
    )
    assert list(found) == [4, 5, 6]
    # The first line is the mean since the line before it, which the interval of 5 never wrote.
    assert found[4] == pytest.approx(sum(losses[step] for step in (1, 2, 3, 4)) / 4, rel=0.02)
    assert [found[5], found[6]] == [losses[5], losses[6]]
    evaluations = [line["step"] for line in history(broken) if "eval_loss" in line]
    assert evaluations[-2:] == [4, 6]
    assert (broken / "checkpoints" / "checkpoint-5").is_dir()
