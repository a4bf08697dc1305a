"""Models and adapters with weights taken away or put in, and the doors that load them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from metro_fast.cli.app import app
from metro_fast.experts import compress
from metro_fast.prompts import Instruction, InstructionSet, Item, Task
from pretrain_cases import rule_corpus

COLORS = ("red", "green", "blue")


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write a safetensors file again with other tensors in it."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def without(*names: str) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        for name in names:
            del tensors[name]

    return change


def with_one_more(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.update({name: torch.ones(2, 2)})


def make_room(tiny_t5: Any, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    """A model, an adapter of it, its packed form, examples, a task, instructions and a corpus."""
    tiny_t5.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    config = peft.LoraConfig(r=2, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
    adapted = peft.get_peft_model(copy.deepcopy(tiny_t5), config)
    generator = torch.Generator().manual_seed(0)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    adapted.save_pretrained(tmp_path / "adapter")
    compress(tmp_path / "adapter", density=0.5).save(tmp_path / "packed")
    rows = [{"input": f"what is {color} ?", "target": color} for color in COLORS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    items = [Item(str(i), {"text": COLORS[i % 3]}, COLORS, i % 3) for i in range(4)]
    Task("colors", "color", tuple(items)).save(tmp_path / "colors.jsonl")
    InstructionSet([Instruction("a", "color", "{{ text }} what ?")]).save(tmp_path / "words.yaml")
    return tmp_path


def command(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output


def evaluated(room: Path, *more: object) -> None:
    command(
        *("evaluate", "--model", room / "model", "--tasks", room / "colors.jsonl"),
        *("--instructions", room / "words.yaml", "--output", room / "evaluated", *more),
    )


def finetuned(room: Path, *more: object) -> None:
    command(
        *("finetune", "--model", room / "model", "--tasks", room / "colors.jsonl"),
        *("--instructions", room / "words.yaml", "--output", room / "tuned", "--steps", 1, *more),
    )


def composed(room: Path) -> None:
    command(
        *("expert", "compose", room / "adapter", room / "packed", "--model", room / "model"),
        *("--examples", room / "pairs.jsonl", "--out", room / "composed", "--steps", 1),
    )


def searched(room: Path) -> None:
    command(
        *("expert", "tune", room / "adapter", room / "searched", "--model", room / "model"),
        *("--examples", room / "pairs.jsonl", "--densities", 0.5, "--alphas", 1),
    )


def merged(room: Path) -> None:
    command(
        *("expert", "merge", room / "packed", "--base", room / "model", "--out", room / "merged"),
    )


def pretrained(room: Path, objective: str, **sections: Any) -> None:
    from transformers import AutoTokenizer

    if not (room / "corpus").exists():
        rule_corpus(room / "corpus", AutoTokenizer.from_pretrained(room / "model"))
    settings = {
        "data": {"corpus": str(room / "corpus"), "block_size": 16, "evaluation_rows": 8},
        "objective": {"name": objective},
        "training": {"max_steps": 1, "per_device_train_batch_size": 2, "warmup_steps": 0},
        **sections,
    }
    (room / "run.yaml").write_text(yaml.safe_dump(settings))
    command(
        *("pretrain", "--config", room / "run.yaml", "--init", room / "model"),
        *("--output", room / f"pretrained-{objective}"),
    )
