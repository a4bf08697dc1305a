"""The commands that own a folder for long, for `fault_table.py`: training and evaluation."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from fault_checks import Case


def stop_the_clock() -> None:
    """No figure of a run depends on the time, so that two runs have the same bytes."""
    import transformers.trainer

    import metro_fast._training.pace

    class Stopped:
        @staticmethod
        def perf_counter() -> float:
            return 0.0

    metro_fast._training.pace.time = Stopped
    transformers.trainer.speed_metrics = lambda *args, **options: {}
    os.environ["SOURCE_DATE_EPOCH"] = "1800000000"


def make_model(folder: Path) -> Path:
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from metro_fast.data import train_tokenizer

    torch.manual_seed(0)
    words = "the cat dog bird fish sees paris rome oslo in which city choose of and is ?"
    tokenizer = train_tokenizer([words] * 20, vocab_size=80, num_sentinels=8)
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    config = T5Config(
        vocab_size=len(tokenizer), decoder_start_token_id=0, dropout_rate=0.1, **sizes
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_task(folder: Path, items: int = 6) -> tuple[Path, Path]:
    from metro_fast.prompts import Item, Task

    cities, animals = ("paris", "rome", "oslo"), ("cat", "dog", "bird", "fish")
    task = Task(
        "cities",
        "qa",
        tuple(
            Item(f"{n}", {"text": f"the {animals[n % 4]} sees {cities[n % 3]}"}, cities, n % 3)
            for n in range(items)
        ),
    )
    task.save(folder / "task.jsonl")
    wordings = [
        {"id": f"w{n}", "task_type": "qa", "text": f"{'which ' * n}city ? {{{{ text }}}}"}
        for n in range(2)
    ]
    (folder / "wordings.json").write_text(json.dumps(wordings))
    return folder / "task.jsonl", folder / "wordings.json"


def cases(inputs: Path) -> Iterator[Case]:
    """Make the inputs, and return the commands."""
    from transformers import AutoTokenizer

    from pretrain_cases import rule_corpus

    stop_the_clock()
    model = make_model(inputs / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    corpus = rule_corpus(inputs / "corpus", tokenizer, documents=12)
    pretrain = (
        "pretrain", "--output", "run", "--data.corpus", str(corpus), "--data.block_size", "16",
        "--data.evaluation_rows", "4", "--model.d_model", "8", "--model.d_kv", "4",
        "--model.d_ff", "8", "--model.num_heads", "2", "--model.num_layers", "1",
        "--auxiliary.num_layers", "1", "--training.max_steps", "4",
        "--training.per_device_train_batch_size", "4", "--training.logging_steps", "1",
        "--training.save_steps", "1", "--training.save_total_limit", "2", "--resume",
    )  # fmt: skip
    yield Case(
        "pretrain",
        pretrain,  # a new run as well, with a warning: its recorded settings are then the same
        growing=("run/*",),
    )
    task, wordings = make_task(inputs)
    finetune = (
        "finetune", "--model", str(model), "--tasks", str(task), "--instructions", str(wordings),
        "--output", "run", "--method", "lora", "--rank", "2", "--steps", "4", "--batch-size", "2",
        "--save-steps", "2", "--logging-steps", "1", "--resume",
    )  # fmt: skip
    yield Case("finetune", finetune, growing=("run/*",))
    evaluate = (
        "evaluate", "--model", str(model), "--tasks", str(task), "--instructions", str(wordings),
        "--output", "out",
    )  # fmt: skip
    yield Case("evaluate", evaluate, growing=("out/*",))
