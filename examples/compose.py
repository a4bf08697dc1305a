"""LoraHub on the demo's model: experts of single wordings, composed for another wording.

Run `make demo` first, then `python examples/compose.py`. It trains a LoRA expert on each wording of
both tasks, compresses all of them, and composes them for each wording that the model has not seen
from 16 examples: of all experts but that wording's own. Once with the experts as they were trained
and once compressed. Then it asks how the result does on the test items. Everything is kept under
demo-output/compose/; an interrupted run resumes where it stopped.
"""

import json
import os
import random
import statistics
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import transformers
from demo_report import OUTPUT, console
from peft import PeftModel, set_peft_model_state_dict
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from metro_fast import experts, robustness, tuning
from metro_fast.prompts import Instruction, InstructionSet, Task

ROOM = OUTPUT / "compose"
WEIGHTS = "adapter_model.safetensors"
RESULTS = Path("benches/results/compose.json")
DENSITY = 0.2
SHOTS = 16
STEPS = 40
SEEDS = (0, 1, 2)
EXPERT = {
    "method": "lora", "rank": 8, "alpha": 16.0, "steps": 100, "batch_size": 32,
    "learning_rate": 3e-3, "warmup_steps": 10, "lora_init_std": 0.01,
}  # fmt: skip
FORMS = ("original", "compressed")


# ---- experts -------------------------------------------------------------------------------


def train(wording: Instruction) -> None:
    """An expert trained on one wording, and its compressed form."""
    if (ROOM / "original" / wording.id).exists():
        return
    words = InstructionSet([wording]).save(ROOM / "wordings" / f"{wording.id}.yaml")
    tuning.finetune(
        tuning.FinetuneConfig(
            model=str(OUTPUT / "model"),
            tasks=[OUTPUT / "tasks" / f"{wording.task_type}.train.jsonl"],
            instructions=words,
            output=ROOM / "original" / wording.id,
            seed=1,
            num_threads=torch.get_num_threads(),
            **EXPERT,
        )
    )


def compress(name: str) -> int:
    """Compress an expert by the rule that needs no validation data; returns its bytes."""
    target = ROOM / "compressed" / name
    if not target.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # names modules that are erased
            expert = experts.compress(ROOM / "original" / name, density=DENSITY)
        expert.save(target)
    return experts.Expert.load(target).nbytes


# ---- tasks ---------------------------------------------------------------------------------


def targets(wordings: InstructionSet) -> dict[str, list[Instruction]]:
    """Each unseen wording alone, and one wording of each task together."""
    unseen = [wording for wording in wordings if not wording.seen_by]
    alone = {wording.id: [wording] for wording in unseen}
    last = [[w for w in unseen if w.task_type == task][-1] for task in ("re", "qa")]
    return alone | {" + ".join(wording.id for wording in last): last}


def examples(wanted: list[Instruction], seed: int) -> list[tuple[str, str]]:
    """A few development items in the target's words: inputs and right answers."""
    rng, pairs = random.Random(f"few shots {seed}"), []
    for wording in wanted:
        items = Task.load(OUTPUT / "tasks" / f"{wording.task_type}.dev.jsonl").items
        chosen = rng.sample(items, SHOTS // len(wanted))
        pairs += [(wording.render(item).input, item.answer_text) for item in chosen]
    return pairs


class Test:
    """Accuracy on the test items under the target's wordings."""

    def __init__(self) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(OUTPUT / "model")
        self.tasks = {
            name: Task.load(OUTPUT / "tasks" / f"{name}.test.jsonl") for name in ("re", "qa")
        }

    def __call__(self, model: Any, wanted: list[Instruction]) -> float:
        """The mean over the wordings."""
        return statistics.mean(
            robustness.evaluate(
                model, self.tokenizer, [self.tasks[wording.task_type]], [wording],
                model_name="candidate", model_family="demo", max_input_length=160, progress=False,
            ).summary(wording.task_type).mean
            for wording in wanted
        )  # fmt: skip


# ---- searches ------------------------------------------------------------------------------


def compose(
    model: Any, form: str, target: str, wanted: list[Instruction], names: list[str], seed: int
) -> dict[str, Any]:
    """One search, the best single expert by the same examples, and both on the test items."""
    kept = ROOM / "runs" / f"{form} {target} {seed}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    test = Test()
    loss = tuning.PairLoss(test.tokenizer, examples(wanted, seed), max_input_length=160)
    start = time.perf_counter()
    found = experts.compose_fewshot(
        model,
        {name: ROOM / form / name for name in names},
        loss,
        max_steps=STEPS,
        seed=seed,
        num_threads=1,
        resume=ROOM / "searches" / f"{form} {target} {seed}.jsonl",
        about={"examples": SHOTS},
    )
    seconds = time.perf_counter() - start
    accuracy = test(model, wanted)
    single, least = "", float("inf")
    for name in names:
        put(model, form, name)
        alone = loss(model)
        if alone < least:
            single, least = name, alone
    put(model, form, single)
    run = {
        "form": form, "target": target, "seed": seed, "loss": found.score,
        "loss_at_zero": found.history[0].score, "accuracy": accuracy, "single": single,
        "single_loss": least, "single_accuracy": test(model, wanted),
        "weights": found.weights, "resident_bytes": found.resident_bytes,
        "dense_bytes": found.dense_bytes, "mixing_ms": 1e3 * found.mixing_seconds,
        "trial_ms": 1e3 * seconds / STEPS,
    }  # fmt: skip
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(run))
    return run


def put(model: Any, form: str, name: str) -> None:
    """Put one expert into the model's adapter."""
    set_peft_model_state_dict(model, state_dict(form, name))


def state_dict(form: str, name: str) -> dict[str, torch.Tensor]:
    """An expert's float32 tensors."""
    if form == "compressed":
        return experts.Expert.load(ROOM / form / name).state_dict()
    from safetensors.torch import load_file

    return load_file(ROOM / form / name / WEIGHTS)


def lorahub_milliseconds(model: Any, names: list[str], trials: int = 20) -> float:
    """A trial's sum as LoraHub makes it: over whole state dicts, loaded by PEFT."""
    states = [state_dict("original", name) for name in names]
    rng, times = random.Random(0), []
    for _ in range(trials):
        weights = [rng.uniform(-1.5, 1.5) for _ in names]
        start = time.perf_counter()
        final: dict[str, torch.Tensor] = {}
        for weight, state in zip(weights, states, strict=True):
            for key, tensor in state.items():
                final[key] = weight * tensor if key not in final else final[key] + weight * tensor
        set_peft_model_state_dict(model, final)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


# ---- the run -------------------------------------------------------------------------------


def main() -> None:
    """Run all of it, and write the results."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
    if not (OUTPUT / "results.json").exists():
        sys.exit(f"{OUTPUT}/results.json is missing: run `make demo` first")
    torch.set_num_threads(2)
    wordings = InstructionSet.load(OUTPUT / "tasks" / "instructions.yaml")
    sizes = {}
    for wording in wordings:
        train(wording)
        sizes[wording.id] = compress(wording.id)
    first = ROOM / "original" / wordings[0].id
    model = PeftModel.from_pretrained(
        AutoModelForSeq2SeqLM.from_pretrained(OUTPUT / "model"), first
    )
    test, runs, base = Test(), [], {}
    for target, wanted in targets(wordings).items():
        with model.disable_adapter():
            base[target] = test(model, wanted)
        names = [w.id for w in wordings if w not in wanted]
        for seed in SEEDS:
            runs += [compose(model, form, target, wanted, names, seed) for form in FORMS]
        console.print(f"{target}: done")
    names = [wording.id for wording in wordings][1:]
    summary = {
        "settings": {"shots": SHOTS, "steps": STEPS, "density": DENSITY, "seeds": SEEDS,
                     "experts": len(names), "test_items": len(test.tasks["re"])},
        "versions": {name: metadata.version(name)
                     for name in ("metro_fast", "torch", "peft", "nevergrad")},
        "base": base,
        "file_bytes": {"compressed": sizes, "original": (first / WEIGHTS).stat().st_size},
        "lorahub_mixing_ms": lorahub_milliseconds(model, names),
        "runs": runs,
    }  # fmt: skip
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(summary, indent=1) + "\n")
    page = table(summary)
    RESULTS.with_suffix(".md").write_text(page)
    print(page)


def table(summary: dict[str, Any]) -> str:
    """The results as a page of Markdown."""
    settings, runs = summary["settings"], summary["runs"]
    targets = list(summary["base"])

    def of(form: str, setting: str, target: str | None = None) -> list[float]:
        chosen = (r for r in runs if r["form"] == form and target in (None, r["target"]))
        return [float(r[setting]) for r in chosen]

    def cell(form: str, setting: str, target: str) -> str:
        values = of(form, setting, target)
        return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"

    lines = [
        "# Experts composed from a few examples, original against compressed",
        "",
        f"Made by `python examples/compose.py`. {settings['experts']} LoRA experts of single "
        f"wordings, {settings['shots']} examples, {settings['steps']} trials of NGOpt, "
        f"{len(settings['seeds'])} draws of the examples: mean (lowest to highest). Accuracy on "
        f"{settings['test_items']} test items. Compressed: density {settings['density']:.0%}, "
        "least squares. The best single expert is the one with the lowest loss on the same "
        "examples.",
        "",
        "| unseen wording | no expert | best single, original | best single, compressed "
        "| composed, original | composed, compressed |",
        "|---|---|---|---|---|---|",
    ]
    kinds = [(f, w) for w in ("single_accuracy", "accuracy") for f in FORMS]
    for target in targets:
        cells = [cell(form, setting, target) for form, setting in kinds]
        lines.append(f"| {target} | {summary['base'][target]:.3f} | {' | '.join(cells)} |")
    means = [f"{statistics.mean(of(form, setting)):.3f}" for form, setting in kinds]
    base = statistics.mean(summary["base"].values())
    lines += [f"| mean | {base:.3f} | {' | '.join(means)} |", ""]
    lines += [
        "| | original experts | compressed experts | LoraHub's way |",
        "|---|---|---|---|",
        _row("loss on the examples at weights 0", *(of(f, "loss_at_zero") for f in FORMS)),
        _row("loss on the examples, composed", *(of(f, "loss") for f in FORMS)),
        _row("ms a sum, put into the model", *(of(f, "mixing_ms") for f in FORMS),
             [summary["lorahub_mixing_ms"]]),
        _row("kB that hold the experts and the sum",
             *([b / 1e3 for b in of(f, "resident_bytes")] for f in FORMS),
             [b / 1e3 for b in of("original", "dense_bytes")]),
        "",
        f"A trial, scoring included, took {statistics.mean(of('compressed', 'trial_ms')):.0f} ms "
        "with compressed experts. LoraHub's way: float32 state dicts, summed name by name and put "
        "in by `set_peft_model_state_dict`.",
        "",
        "Largest weights of the first draw:",
        "",
        "| unseen wording | original | compressed |",
        "|---|---|---|",
    ]  # fmt: skip
    for target in targets:
        lines.append(f"| {target} | {' | '.join(_largest(runs, f, target) for f in FORMS)} |")
    return "\n".join(lines) + "\n"


def _row(name: str, *columns: list[float]) -> str:
    cells = [f"{statistics.mean(values):.4g}" for values in columns]
    return f"| {name} | {' | '.join(cells + [''] * (3 - len(cells)))} |"


def _largest(runs: list[dict[str, Any]], form: str, target: str) -> str:
    run = next(r for r in runs if r["form"] == form and r["target"] == target)
    largest = sorted(run["weights"].items(), key=lambda pair: -abs(pair[1]))[:3]
    return ", ".join(f"{name} {weight:+.2f}" for name, weight in largest)


if __name__ == "__main__":
    main()
