"""Is a compressed expert as good as its original under every wording? A base and two experts of it.

`python benches/expert_study.py smollm2` trains a LoRA expert for relations (four relations of
SemEval-2010 Task 8) and one for sentence polarity on SmolLM2-135M-Instruct (`make real-model`), and
`python benches/expert_study.py demo` takes the T5 and the experts that `make demo` has left in
demo-output/. Each expert is compressed to four densities, with the alpha of least squares and with
the one that has the lowest loss on development items. The base and all experts are asked the same
test items under eight wordings that the experts were trained with, eight that they were not, and
controls. Finished parts in --output are kept, so that a run that was stopped continues.

The results are benches/results/expert_study_NAME.json and .md; the page is --output/report.html.
"""

import argparse
import hashlib
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from expert_study_tables import write_results
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

from metro_fast import experts, robustness
from metro_fast.prompts import (
    Instruction,
    InstructionSet,
    Item,
    Task,
    own_instructions,
    read_rows,
    read_semeval,
    render_items,
)
from metro_fast.scoring import PROTOCOLS, Engine, Protocol, find_protocol
from metro_fast.scoring.encoding import encode_prompts

ROOT = Path(__file__).resolve().parents[1]
RELATIONS = {
    "Cause-Effect": "cause and effect",
    "Component-Whole": "component and whole",
    "Entity-Destination": "entity and destination",
    "Message-Topic": "message and topic",
}
DENSITIES = (0.05, 0.1, 0.2, 0.5)
ALPHAS: tuple[float | str, ...] = (1.0, 2.0, 3.0, 4.0, "least_squares")
STEPS, BATCH, LEARNING_RATE = 60, 8, 1e-3
DEVELOPMENT = 64
SEED = 0


@dataclass
class Subject:
    """A base, and for each task its items, wordings and expert at full size."""

    name: str
    model: Any
    tokenizer: Any
    tasks: dict[str, Task]
    development: dict[str, Task]
    instructions: InstructionSet
    experts: dict[str, Path]
    protocol: Protocol
    options: dict[str, Any]
    seen_by: tuple[str, ...] = ()


def drawn(items: Sequence[Item], count: int) -> tuple[Item, ...]:
    """The items with the smallest hashes of their ids: a draw that only grows with `count`."""

    def key(item: Item) -> bytes:
        return hashlib.sha256(f"expert_study\0{item.id}".encode()).digest()

    return tuple(sorted(items, key=key)[:count])


def relations(path: Path, split: str) -> tuple[Item, ...]:
    """The items of four relations, without their directions."""
    names = tuple(RELATIONS)
    found = []
    for item in read_semeval(path, split=split).task:
        relation = item.answer_text.partition("(")[0]
        if relation in RELATIONS:
            found.append(
                replace(item, choices=tuple(RELATIONS.values()), answer=names.index(relation))
            )
    return tuple(found)


def polarity(path: Path) -> tuple[Item, ...]:
    """The reviews."""
    rows = map(json.loads, path.read_text("utf-8").splitlines())
    read = read_rows(
        rows, name="polarity", task_type="sentiment", answer="label",
        choices=("negative", "positive"),
    )  # fmt: skip
    return read.task.items


def wordings(name: str, count: int) -> list[Instruction]:
    """Wordings of a set of the package: those to train with, those kept back, and controls."""
    words = own_instructions(name)
    seen = [w for w in words if w.style == "seen-like"][:count]
    kept = [w for w in words if w.style == "unseen-like"][:count]
    controls = [next(w for w in words if w.kind == kind) for kind in ("negated", "wrong", "empty")]
    return [*(replace(w, seen_by=("experts",)) for w in seen), *kept, *controls]


def train(
    model: Any,
    tokenizer: Any,
    protocol: Protocol,
    words: Sequence[Instruction],
    items: Sequence[Item],
) -> Any:
    """A LoRA expert for the tokens that the protocol scores, each item in a wording at random."""
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    peft = get_peft_model(
        model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"])
    )
    peft.train()
    weights = [each for each in peft.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.0)
    pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    for step in range(STEPS):
        rows, labels = [], []
        for item in rng.sample(items, BATCH):
            prompt = render_items(rng.choice(words), [item]).prompts[0]
            encoded = encode_prompts(
                tokenizer, protocol, [prompt.input], [prompt.choices], causal=True, positions=1024
            )[0]
            target = encoded.targets[prompt.answer]
            rows.append(torch.tensor(encoded.context + target))
            labels.append(torch.tensor([-100] * len(encoded.context) + target))
        batch = pad(rows)
        mask = torch.arange(batch.shape[1]) < torch.tensor([[len(row)] for row in rows])
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 6) * (1 - step / STEPS)
        targets = pad(labels, padding_value=-100)
        loss = peft(input_ids=batch, attention_mask=mask.long(), labels=targets).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 10 == 0:
            print(f"step {step + 1} of {STEPS}: loss {loss.item():.3f}", flush=True)
    return peft.eval()


def smollm2(args: argparse.Namespace) -> Subject:
    """The real model, and the experts, which are trained unless they are there."""
    sys.path.insert(0, str(ROOT / "tests/support"))
    import real_model

    absence = real_model.absence()
    if absence is not None:
        sys.exit(absence)
    model, tokenizer = real_model.load()
    protocol = find_protocol("lm_eval", wrapper="chat", tokenizer=tokenizer)
    folder = args.data / "re/semeval2010_task8"
    trained_on = relations(folder / "TRAIN_FIRST2000.TXT", "train")
    reviews = drawn(polarity(args.data / "tasks/sentence_polarity.jsonl"), 10**9)
    test, count = relations(folder / "TEST_FILE_FULL_first1811.TXT", "test"), args.items
    parts = {
        "relations": ("re", drawn(test, count), drawn(trained_on, 10**9)),
        "polarity": ("sentiment", reviews[:count], reviews[1000:]),
    }  # fmt: skip
    tasks, development, paths = {}, {}, {}
    words: list[Instruction] = []
    for name, (kind, asked, rest) in parts.items():
        own = wordings(kind, args.wordings)
        words += own
        tasks[name] = Task(name, kind, asked, split="test")
        development[name] = Task(name, kind, rest[:DEVELOPMENT], split="dev")
        paths[name] = args.output / "experts" / name
        if not (paths[name] / "adapter_model.safetensors").is_file():
            seen = [w for w in own if w.seen_by]
            peft = train(model, tokenizer, protocol, seen, rest[DEVELOPMENT:])
            peft.save_pretrained(paths[name])
            model = peft.unload()
    return Subject(
        "SmolLM2-135M-Instruct", model, tokenizer, tasks, development, InstructionSet(words), paths,
        protocol, {},
    )  # fmt: skip


def demo(args: argparse.Namespace) -> Subject:
    """The T5 of the demo and its experts."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = args.demo
    if not (folder / "compressed/qa").is_dir():
        sys.exit(f"{folder} holds no experts; run make demo first")
    names = ("re", "qa")
    found = {
        split: {name: Task.load(folder / f"tasks/{name}.{split}.jsonl") for name in names}
        for split in ("test", "dev")
    }
    tasks = {
        name: replace(task, items=drawn(task.items, args.items))
        for name, task in found["test"].items()
    }
    development = {
        name: replace(task, items=drawn(task.items, DEVELOPMENT))
        for name, task in found["dev"].items()
    }
    words = InstructionSet.load(folder / "tasks/instructions.yaml")
    return Subject(
        "the demo's T5",
        AutoModelForSeq2SeqLM.from_pretrained(folder / "model").eval(),
        AutoTokenizer.from_pretrained(folder / "model"),
        tasks, development, words,
        {name: folder / "experts" / name for name in names},
        PROTOCOLS["metro_t0"], {"max_input_length": 160},
        ("base",),
    )  # fmt: skip


def compressed(subject: Subject, task: str, output: Path) -> dict[str, Path]:
    """The expert of a task at each density, with both alphas, by the names of the models."""
    wording = next(
        w for w in subject.instructions.for_task(subject.tasks[task].task_type) if w.seen_by
    )
    prompts = render_items(wording, subject.development[task].items).prompts

    def loss(model: Any) -> float:
        """The mean cross-entropy of the right choice among the choices, in nats."""
        found = Engine(model, subject.tokenizer).answer(prompts, subject.protocol)
        scores = torch.tensor([outcome.scores for outcome in found])
        return float(cross_entropy(scores, torch.tensor([prompt.answer for prompt in prompts])))

    source = subject.experts[task]
    tuned = experts.tune_compression(
        source,
        subject.model,
        loss,
        densities=DENSITIES,
        alphas=ALPHAS,
        resume=output / f"tuning-{task}.jsonl",
    )
    found: dict[str, Path] = {}
    for density in DENSITIES:
        rows = [row for row in tuned.rows if row.density == density]
        best = min(rows, key=lambda row: row.score)
        for alpha in dict.fromkeys(("least_squares", best.alpha)):
            note = "" if alpha == "least_squares" else f", alpha {alpha:g}"
            name = f"{task} {density:.0%}{note}"
            path = output / "compressed" / name.replace(" ", "-").replace(",", "")
            experts.compress(source, density=density, alpha=alpha).save(path)
            found[name] = path
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subject", choices=("smollm2", "demo"))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--demo", type=Path, default=ROOT / "demo-output")
    parser.add_argument("--output", type=Path, help="by default target/expert_study_SUBJECT")
    parser.add_argument("--items", type=int, default=150, help="test items of each task")
    parser.add_argument("--wordings", type=int, default=8, help="seen ones, and as many unseen")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.output = args.output or ROOT / "target" / f"expert_study_{args.subject}"
    args.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    start = time.perf_counter()
    subject = (smollm2 if args.subject == "smollm2" else demo)(args)
    for name, task in subject.tasks.items():
        full = f"{name} at full size"
        packed = compressed(subject, name, args.output)
        seen_by = (*subject.seen_by, full, *packed)
        words = [
            replace(w, seen_by=seen_by if w.seen_by else ())
            for w in subject.instructions.for_task(task.task_type)
        ]
        robustness.evaluate_experts(
            subject.model,
            subject.tokenizer,
            [task],
            words,
            {full: subject.experts[name], **packed},
            base_name="base",
            originals=dict.fromkeys(packed, full),
            output=args.output / "evaluation",
            preset=subject.protocol,
            **subject.options,
        )
    write_results(args.subject, subject.name, args.output, time.perf_counter() - start)


if __name__ == "__main__":
    main()
