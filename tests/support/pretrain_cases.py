"""A small corpus and the settings of small runs on it, for the tests of `pretrain`."""

import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

from metro_fast.data import write_corpus
from metro_fast.metro import PretrainConfig

SIZES = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}


def rule_corpus(folder: Path, tokenizer: Any, *, documents: int = 30, seed: int = 0) -> Path:
    """Two rows of 16 tokens for each document, in which words follow one another by a rule."""
    draw, size = random.Random(seed), len(tokenizer)
    found = []
    for _ in range(documents):
        word, document = draw.randrange(20, size), []
        for _ in range(31):
            document.append(word)
            word = 20 + (word - 20 + 1) % (size - 20) if draw.random() < 0.8 else 25
        found.append([*document, 1])
    write_corpus(folder, found)
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


def small_run(folder: Path, tokenizer: Any) -> dict[str, Any]:
    """Settings of six steps with METRO on 60 rows."""
    return {
        "output": folder / "out",
        "data": {
            "corpus": rule_corpus(folder / "corpus", tokenizer),
            "block_size": 16,
            "evaluation_rows": 8,
        },
        "model": dict(SIZES),
        "auxiliary": {"num_layers": 1},
        "objective": {"name": "metro"},
        "training": {
            "max_steps": 6,
            "per_device_train_batch_size": 8,
            "warmup_steps": 2,
            "learning_rate": 3e-3,
            "logging_steps": 4,
            "save_steps": 2,
        },
    }


def changed(settings: dict[str, Any], changes: dict[str, Any]) -> PretrainConfig:
    """The settings with others in their place, by dotted name; None for a section drops it."""
    found = deepcopy(settings)
    for name, value in changes.items():
        section, _, key = name.rpartition(".")
        if section:
            found.setdefault(section, {})[key] = value
        elif value is None:
            found.pop(name)
        else:
            found[name] = value
    return PretrainConfig(**found)


def baseline(settings: dict[str, Any], name: str, **own: Any) -> dict[str, Any]:
    """The same run with an objective that has no auxiliary model."""
    rest = {key: value for key, value in settings.items() if key != "auxiliary"}
    return {**rest, "objective": {"name": name, **own}}


def history(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
