"""Merges beside the true mean of the experts' updates: ours and PEFT's, of 2, 3 and 10 experts.

`python benches/merge_projections.py [FOLDER]` compresses experts at 20 %, merges them with equal
weights, and loads each merge into a stock PEFT model, whose updates are compared with the mean of
the updates of the decompressed experts. It writes benches/results/merge_projections.json and
merge_projections.md and the table of docs/merging.md. The experts:

- drawn: A and B normal, so that experts have nothing in common;
- trained: LoRA of two layers, each trained on a task of its own with an initial A of its own;
- trained, one start: the same from one initial A, as a seed that is never changed gives it;
- GPT-2 LoRA, SD 1.5 LoRA: real updates of one shape, from the layers of one published adapter
  (FOLDER, by default ../shared/data/adapters), since no two of one base are at hand.
"""

import argparse
import json
import platform
import re
import tempfile
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import peft
import torch

from metro_fast.experts import Expert, compress, decompress, merge, save_plain
from metro_fast.experts.adapters.state_file import read_state

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs/merging.md"
ADAPTERS = Path(__file__).resolve().parents[2] / "shared/data/adapters"
COUNTS = (2, 3, 10)
SIZE, RANK, ALPHA = 128, 8, 16
OURS: dict[str, dict] = {
    "updates (the default)": {},
    "updates, rank of one": {"rank": RANK},
    "factors": {"space": "factors"},
    "ties of factors": {"method": "ties"},
    "ties of updates, rank of one": {"method": "ties", "rank": RANK},
}
PEFTS: dict[str, dict] = {
    "linear": {},
    "cat": {},
    "svd": {},
    "ties": {"density": 1.0},
    "ties_svd": {"density": 1.0},
}


def base(shapes: list[tuple[int, int]]) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(*(torch.nn.Linear(i, o, bias=False) for o, i in shapes))


def adapted(shapes: list[tuple[int, int]], alpha: int, rank: int) -> peft.PeftModel:
    targets = [str(i) for i in range(len(shapes))]
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets)
    return peft.get_peft_model(base(shapes), config)


def drawn(seed: int) -> peft.PeftModel:
    model = adapted([(SIZE, SIZE)] * 2, ALPHA, RANK)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.02, generator=generator)
    return model


def trained(seed: int, start: int) -> peft.PeftModel:
    """LoRA of a linear network that learns what a perturbed copy of its layers computes."""
    shapes = [(SIZE, SIZE)] * 2
    model, generator = base(shapes), torch.Generator().manual_seed(1000 + seed)
    inputs = torch.randn(512, SIZE, generator=generator)
    hidden = inputs
    for layer in model:
        rough = torch.randn(SIZE, SIZE, generator=generator) * 0.02
        few = torch.randn(SIZE, 4, generator=generator) @ torch.randn(4, SIZE, generator=generator)
        hidden = hidden @ (layer.weight.detach() + rough + 0.01 * few).T
    torch.manual_seed(start)
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["0", "1"])
    model = peft.get_peft_model(model, config)
    torch.manual_seed(start)
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            torch.nn.init.kaiming_uniform_(parameter, a=5**0.5)
    wanted = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(wanted, lr=2e-3)
    for _ in range(200):
        loss = (model(inputs) - hidden).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def of_layers(pairs: list[tuple[np.ndarray, np.ndarray]], alpha: int) -> list[peft.PeftModel]:
    found = []
    for a, b in pairs:
        model = adapted([(b.shape[0], a.shape[1])], alpha, len(a))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                for side, values in (("lora_A", a), ("lora_B", b)):
                    if side in name:
                        parameter.copy_(torch.from_numpy(values.astype(np.float32)))
        found.append(model)
    return found


def gpt2(folder: Path) -> list[peft.PeftModel]:
    state = read_state(folder / "gpt2_tigrinya_lora/adapter_model.safetensors")
    name = "base_model.model.transformer.h.{}.attn.c_proj.lora_{}.weight"
    pairs = [tuple(state[name.format(i, x)].float32() for x in "AB") for i in range(10)]
    return of_layers(pairs, 32)


def diffusion(folder: Path) -> list[peft.PeftModel]:
    state = read_state(folder / "sd15_lora_analog/analog_svd_rank4.safetensors")
    names = [n for n in state if n.startswith("unet:") and n.endswith(":down")]
    pairs = [
        (state[n].float32(), state[n.replace(":down", ":up")].float32())
        for n in names
        if state[n].shape == (4, 320) and state[n.replace(":down", ":up")].shape == (320, 4)
    ]
    return of_layers(pairs[:10], 4)


def updates(model: peft.PeftModel, adapter: str) -> np.ndarray:
    layers = [m for m in model.modules() if hasattr(m, "get_delta_weight")]
    return np.concatenate(
        [m.get_delta_weight(adapter).detach().double().numpy().reshape(-1) for m in layers]
    )


def compared(found: np.ndarray, true: np.ndarray) -> list[float]:
    """The projection on the true mean, <found, true> / <true, true>, and the cosine."""
    inner = found @ true
    return [inner / (true @ true), inner / np.linalg.norm(found) / np.linalg.norm(true)]


def measure(models: list[peft.PeftModel]) -> dict[str, list[float]]:
    """All merges of some experts, by name."""
    layers = [m for m in models[0].modules() if hasattr(m, "get_delta_weight")]
    shapes = [(m.out_features, m.in_features) for m in layers]
    experts = [compress(model, density=0.2, alpha="least_squares") for model in models]
    rank, count = models[0].peft_config["default"].r, len(models)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for i, expert in enumerate(experts):
            decompress(expert, folder / str(i))
        stock = peft.PeftModel.from_pretrained(base(shapes), folder / "0", "0")
        for i in range(1, count):
            stock.load_adapter(folder / str(i), str(i))
        names = [str(i) for i in range(count)]
        parts = np.stack([updates(stock, name) for name in names])
        true = parts.mean(0)
        rows = {}
        for name, options in OURS.items():
            more = {"rank": rank} if "rank" in options else {}
            save_plain(merge(experts, **options | more), folder / name)
            loaded = peft.PeftModel.from_pretrained(base(shapes), folder / name)
            rows[f"ours: {name}"] = compared(updates(loaded, "default"), true)
        rows["before: each factor divided by the number"] = before(experts, true)
        for name, options in PEFTS.items():
            more = {"svd_rank": rank, "svd_full_matrices": False} if "svd" in name else {}
            # With ties the weights apply after the election, as ours do.
            share = 1.0 if name.startswith("ties") else 1 / count
            stock.add_weighted_adapter(names, [share] * count, name, name, **options, **more)
            rows[f"PEFT: {name}"] = compared(updates(stock, name), true)
    return rows


def before(experts: list[Expert], true: np.ndarray) -> list[float]:
    """A and B as means, which the default was until updates became it."""
    states = [expert.arrays(np.float32) for expert in experts]
    config = json.loads(experts[0].config or b"{}")
    mean = {n: np.mean([state[n] for state in states], axis=0) for n in states[0]}
    found = []
    for name in sorted(n for n in mean if ".lora_A." in n):
        product = mean[name.replace("lora_A", "lora_B")].astype(np.float64) @ mean[name]
        found.append(config["lora_alpha"] / config["r"] * product.reshape(-1))
    return compared(np.concatenate(found), true)


def kinds(folder: Path) -> dict[str, Callable[[], list[peft.PeftModel]]]:
    most = max(COUNTS)
    found: dict[str, Callable[[], list[peft.PeftModel]]] = {
        "drawn": lambda: [drawn(i) for i in range(most)],
        "trained": lambda: [trained(i, i) for i in range(most)],
        "trained, one start": lambda: [trained(i, 0) for i in range(most)],
    }
    if folder.is_dir():
        found |= {"GPT-2 LoRA": lambda: gpt2(folder), "SD 1.5 LoRA": lambda: diffusion(folder)}
    return found


def table(result: dict, kind: str) -> list[str]:
    counts = list(result["kinds"][kind])
    lines = [
        "| merge | " + " | ".join(f"{n} experts" for n in counts) + " |",
        "|---|" + "---|" * len(counts),
    ]
    for name in next(iter(result["kinds"][kind].values())):
        cells = [result["kinds"][kind][n][name] for n in counts]
        lines.append(f"| {name} | " + " | ".join(f"{p:.2f} ({c:.2f})" for p, c in cells) + " |")
    return lines


def markdown(result: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        "# Merges beside the true mean",
        "",
        f"{result['date'][:10]}, {result['machine']}; {versions}. Made by "
        "`python benches/merge_projections.py`.",
        "",
        "Each cell is the projection of the merge on the mean of the experts' updates, which is 1 "
        "for the mean itself, and in brackets its cosine to it. TIES is not a mean: it divides by "
        "the number of experts that agree.",
    ]
    for kind in result["kinds"]:
        lines += ["", f"## {kind}", "", *table(result, kind)]
    return "\n".join(lines) + "\n"


def embed(page: str, result: dict) -> str:
    """The page with new tables between each `<!-- table: KIND -->` and `<!-- end -->`."""

    def new(found: re.Match[str]) -> str:
        return f"{found[1]}\n" + "\n".join(table(result, found[2])) + f"\n{found[3]}"

    return re.sub(r"(<!-- table: ([^>]+) -->)\n.*?(<!-- end -->)", new, page, flags=re.S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ADAPTERS)
    folder = parser.parse_args().folder
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.set_num_threads(1)
    packages = ("metro_fast", "numpy", "torch", "peft")
    result: dict = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "versions": {name: metadata.version(name) for name in packages},
        "cells": "projection on the true mean, cosine",
        "kinds": {},
    }
    for kind, make in kinds(folder).items():
        models = make()
        result["kinds"][kind] = {str(n): measure(models[:n]) for n in COUNTS}
        print(f"{kind}: measured", flush=True)
    text = json.dumps(result, indent=1)
    text = re.sub(r"\[\s+([-\d.e]+),\s+([-\d.e]+)\s+\]", r"[\1, \2]", text)
    (RESULTS / "merge_projections.json").write_text(text + "\n")
    (RESULTS / "merge_projections.md").write_text(markdown(result))
    PAGE.write_text(embed(PAGE.read_text("utf-8"), result))
    print(markdown(result))


if __name__ == "__main__":
    main()
