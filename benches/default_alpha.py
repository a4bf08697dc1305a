"""A trained expert's answers after compression, by alpha: the measurements behind the default.

`python benches/default_alpha.py` trains a LoRA of SmolLM2-135M-Instruct (`make real-model`) on the
polarity of sentences, compresses it at several densities and alphas, and asks each result the same
items, which the training has not seen. Nothing is downloaded: the data are read from --data. It
writes benches/results/default_alpha.json and default_alpha.md. The trained adapter and the answered
items are kept below --room, so that a run that was stopped continues where it ended. It takes
twelve minutes of processor time.

An answer is the first token of one of two words behind the chat template, as likelihood. The effect
of an expert is how far it moves each item's margin between the two (in nats) away from the base's;
what a compressed one keeps of it is the slope of its effect on that of the whole expert, which has
far less noise than an accuracy.
"""

import argparse
import copy
import json
import platform
import random
import statistics
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from default_alpha_tables import markdown
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict

from metro_fast.experts import compress, fidelity

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benches/results/default_alpha.json"
LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}
STEPS, BATCH, RATE = 60, 8, 1e-3
LEAST_SQUARES = "least_squares"
GRID = (
    (0.2, (LEAST_SQUARES, 1.0, 2.0, 3.0)),
    (0.05, (LEAST_SQUARES, 1.0, 3.0)),
    (0.5, (LEAST_SQUARES, 1.0, 2.0)),
)


# ---- tasks ---------------------------------------------------------------------------------


WORDS = ("negative", "positive")


def polarity(data: Path) -> list[tuple[str, int]]:
    """Sentences of film reviews, and whether they praise."""
    rows = map(json.loads, (data / "tasks/sentence_polarity.jsonl").read_text("utf-8").splitlines())
    ask = "Is the sentiment of this review positive or negative? Answer with one word.\n\n{}"
    return [(ask.format(row["text"]), row["label"]) for row in rows]


class Questions:
    """Items in the chat template, as the tokens of each prompt and of the right answer."""

    def __init__(self, tokenizer: Any, items: list[tuple[str, int]]):
        self.answers = [tokenizer.encode(word, add_special_tokens=False)[0] for word in WORDS]
        self.labels = [label for _, label in items]
        self.prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
            )
            for text, _ in items
        ]
        shortest = min(map(len, self.prompts))
        first = self.prompts[0]
        same = (all(p[i] == first[i] for p in self.prompts) for i in range(shortest - 1))
        self.common = next((i for i, equal in enumerate(same) if not equal), shortest - 1)

    def batch(self, chosen: list[int], start: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens from `start` on, padded on the left, and the mask of the whole prompts."""
        rows = [self.prompts[i][start:] for i in chosen]
        width = max(map(len, rows))
        tokens = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        own = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return tokens, torch.cat([own.new_ones(len(rows), start), own], dim=1)


def draw(data: Path, tokenizer: Any, items: int) -> tuple[Questions, Questions]:
    """Items to train on and items to ask, which do not overlap."""
    every = polarity(data)
    random.Random(0).shuffle(every)
    count = STEPS * BATCH
    asked = every[count : count + items]
    return Questions(tokenizer, every[:count]), Questions(tokenizer, asked)


# ---- the model -----------------------------------------------------------------------------


def margins(model: Any, questions: Questions) -> list[float]:
    """Log-odds of the second answer against the first for each item."""
    order = sorted(range(len(questions.labels)), key=lambda i: len(questions.prompts[i]))
    found = [0.0] * len(order)
    with torch.inference_mode():
        head = torch.tensor([questions.prompts[0][: questions.common]])
        start = model(input_ids=head, use_cache=True, logits_to_keep=1).past_key_values
        for at in range(0, len(order), 16):
            chosen = order[at : at + 16]
            tokens, mask = questions.batch(chosen, questions.common)
            cache = copy.deepcopy(start)
            cache.batch_repeat_interleave(len(chosen))
            places = (mask.cumsum(1) - 1).clamp(min=0)[:, questions.common :]
            logits = model(
                input_ids=tokens, attention_mask=mask, position_ids=places,
                past_key_values=cache, logits_to_keep=1,
            ).logits[:, -1].float()  # fmt: skip
            no, yes = (logits[:, token] for token in questions.answers)
            for i, margin in zip(chosen, (yes - no).tolist(), strict=True):
                found[i] = margin
    return found


def train(base: Any, questions: Questions, folder: Path) -> None:
    """Train a LoRA on the answers' first tokens, and save it as PEFT does."""
    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **LORA)).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)
    for step in range(STEPS):
        chosen = list(range(step * BATCH, (step + 1) * BATCH))
        tokens, mask = questions.batch(chosen)
        places = (mask.cumsum(1) - 1).clamp(min=0)
        logits = model(
            input_ids=tokens, attention_mask=mask, position_ids=places, logits_to_keep=1
        ).logits[:, -1]
        right = torch.tensor([questions.answers[questions.labels[i]] for i in chosen])
        loss = torch.nn.functional.cross_entropy(logits, right)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1} of {STEPS}: loss {loss.item():.3f}", flush=True)
    model.save_pretrained(folder)
    model.unload()


# ---- the run -------------------------------------------------------------------------------


def study(args: argparse.Namespace, base: Any, tokenizer: Any) -> dict[str, Any]:
    """Margins of every form of the expert."""
    questions, asked = draw(args.data, tokenizer, args.items)
    args.room.mkdir(parents=True, exist_ok=True)
    kept, folder = args.room / "margins.json", args.room / "adapter"
    done = json.loads(kept.read_text()) if kept.exists() else {}

    def answer(name: str, model: Any) -> list[float]:
        key = f"{name}, {args.items} items"
        if key not in done:
            start = time.process_time()
            done[key] = margins(model, asked)
            kept.write_text(json.dumps(done))
            print(f"{name}: {time.process_time() - start:.0f} s", flush=True)
        return done[key]

    plain = answer("base", base)
    if not (folder / "adapter_model.safetensors").exists():
        train(base, questions, folder)
    model = PeftModel.from_pretrained(base, folder).eval()
    whole = answer("whole", model)
    forms = []
    for density, alphas in GRID:
        for alpha in alphas:
            expert = compress(folder, density=density, alpha=alpha)
            set_peft_model_state_dict(model, expert.state_dict())
            rows = fidelity(folder, expert)
            forms.append({
                "density": density,
                "alpha": alpha,
                "alphas": {group.name: group.alpha for group in expert.manifest.groups},
                "bytes": expert.nbytes,
                "cosine": statistics.median(row.cosine for row in rows),
                "norm_ratio": statistics.median(row.norm_ratio for row in rows),
                "margins": [round(margin, 4) for margin in answer(f"{density:g} {alpha}", model)],
            })  # fmt: skip
    return {
        "labels": asked.labels,
        "bytes": (folder / "adapter_model.safetensors").stat().st_size,
        "base": plain,
        "whole": whole,
        "forms": forms,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--room", type=Path, default=ROOT / "target/default_alpha")
    parser.add_argument("--items", type=int, default=300, help="items that each form is asked")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests/support"))
    import real_model

    absence = real_model.absence()
    if absence is not None:
        sys.exit(absence)
    warnings.filterwarnings("ignore", "(the update of|group)", UserWarning)
    names = ("metro_fast", "torch", "transformers", "peft")
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.platform(),
        "versions": {name: metadata.version(name) for name in names},
        "model_sha256": real_model.sha256(real_model.folder() / "model.safetensors"),
        "training": LORA | {"steps": STEPS, "batch": BATCH, "learning_rate": RATE},
        **study(args, *real_model.load()),
    }
    RESULTS.write_text(json.dumps(result) + "\n")
    RESULTS.with_suffix(".md").write_text(markdown(result))


if __name__ == "__main__":
    main()
