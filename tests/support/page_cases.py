"""The pages that we write, of many models with long names: what is hardest to fit in."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cell_cases import make_cell
from metro_fast.experts import compress, fidelity, tune_compression
from metro_fast.experts.pictures import expert_page, similarity_page, tuning_page
from metro_fast.metro import draw_curves
from metro_fast.metro.strip_page import strip_page
from metro_fast.metro.strip_text import StripRow, StripToken
from metro_fast.prompts import Instruction, Item, Task
from metro_fast.robustness import Report, write_page
from metro_fast.scoring import Outcome

UNBROKEN = "an_unbroken_name_without_any_place_at_which_a_line_could_end_2026_11"
MODELS = (
    "base",
    "google/flan-t5-base with the expert that was trained on everything",
    UNBROKEN,
    "expert-0.05",
    "Übermodell-mit-großem-Wortschatz",
)
TEXTS = {
    "ask": "which animal : {{ text }} ?",
    "options": "{{ options }} : {{ text }} ?",
    "a-wording-of-a-long-name/with_parts_of_its_own_and_more_of_them": "{{ text }}",
    "long": f"read {'very ' * 40} closely {{{{ text }}}} and choose",
    "unbroken": f"read:{'x' * 90} {{{{ text }}}}",
}
CHOICES = ("the cat", "a red dog", "https://example.org/" + "bird-house/" * 9)


def _report(model: str, seed: int) -> Report:
    """A model on two tasks, with the wordings of the first two seen, and a control."""
    cells = []
    for name in ("cases", f"task-{UNBROKEN}"):
        items = [
            Item(str(i), {"text": f"{'fish_and_' * 20} {i}"}, CHOICES, i % 3) for i in range(30)
        ]
        task = Task(name, "cases", tuple(items))
        for place, (wording, text) in enumerate(TEXTS.items()):
            seen = ("t5",) if place < 2 else ()
            kind = "negated" if place == 4 and name == "cases" else "wording"
            instruction = Instruction(wording, "cases", text, seen_by=seen, kind=kind)
            draw = np.random.default_rng([seed, place])
            scores = draw.uniform(-9, -1, (30, 3)).round(2)
            scores[np.arange(30), np.arange(30) % 3] += 3 * (draw.random(30) < 0.8)
            outcomes = [Outcome(int(row.argmax()), tuple(row.tolist())) for row in scores]
            cells.append(make_cell(task, instruction, outcomes, model=model))
    return Report(cells, versions={"torch": "2.15.0"}, date=1_795_000_000.0)


def report_page(folder: Path) -> str:
    """Five models, two tasks, five wordings, lines of baselines, sizes and curves."""
    path = write_page(
        folder / "report.html",
        [_report(model, number) for number, model in enumerate(MODELS)],
        baselines={"cases": {f"never reads {UNBROKEN}": 0.4, "reads half of it": 0.95}},
        artifacts={model: 10**number for number, model in enumerate(MODELS, 3)},
        curves={"Loss": {model: [(0, 9000.5), (10**6, 0.001)] for model in MODELS}},
    )
    return path.read_text("utf-8")


def curves_page(folder: Path) -> str:
    """The curves of five runs of two thousand steps."""
    runs = []
    for number, model in enumerate(MODELS):
        run = folder / f"run {model.replace('/', ' ')}"
        run.mkdir()
        lines = [
            {"step": step, "loss": 1e5 / step + number, "rtd_auc": math.cos(step) / 2 + 0.5}
            for step in range(100, 2001, 100)
        ]
        lines += [{"step": 2000, "eval_loss": 1.5 + number}]
        (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        runs.append(run)
    return draw_curves(runs, folder / "curves.html").read_text("utf-8")


def _state(names: tuple[str, ...]) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(5)
    shapes = {"A": (4, 40), "B": (40, 4)}
    prefix = "base_model.model"
    return {
        f"{prefix}.{part}.block.{i}.layer.0.{name}.lora_{factor}.weight": np.float32(
            draw.standard_normal(shapes[factor])
        )
        for part in ("encoder", "decoder")
        for i in range(6)
        for name in names
        for factor in "AB"
    }


def one_expert(folder: Path) -> str:
    """An expert of many modules with long names."""
    del folder
    names = tuple(f"SelfAttention.{name}" for name in ("q", "k", "v", "o", UNBROKEN))
    state = _state(names)
    expert = compress(state, density=0.2)
    return expert_page(expert, f"path/to/{UNBROKEN}", fidelity(state, expert))


def few_modules(folder: Path) -> str:
    """An expert of one layer and one module, and many groups."""
    del folder
    state = {f"layers.0.{UNBROKEN}{i}.ia3_l": np.ones(8, np.float32) for i in range(30)}
    expert = compress(state, density=0.5)
    return expert_page(expert, "short", fidelity(state, expert))


def similar_experts(folder: Path) -> str:
    """The cosines of ten experts with long names."""
    del folder
    draw = np.random.default_rng(3)
    rows = draw.standard_normal((10, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"{model} {i}" for model in MODELS for i in range(2)]
    return similarity_page(names, rows @ rows.T, "Similarity of everything")


def grid(folder: Path) -> str:
    """A grid of four densities and six alphas."""
    del folder
    weights = {"w": np.random.default_rng(0).standard_normal(4096).astype(np.float32)}
    scores = iter(np.linspace(-123456.789, 654321.0, 100).tolist())
    found = tune_compression(
        weights,
        lambda expert: expert,
        lambda expert: next(scores),
        kind="other",
        densities=(0.05, 0.1, 0.2, 0.5),
        alphas=(0.5, 1, 2, 3, 5.25, "least_squares"),
    )
    return tuning_page(found, UNBROKEN)


def strips(folder: Path) -> str:
    """Rows of tokens, one of them as long as a line."""
    del folder
    tokens = [
        StripToken(token, "<mask>" if i % 3 else None, token if i % 2 else "x", not i % 2, 0.4)
        for i, token in enumerate(["▁the", "▁cat", "=" * 120, UNBROKEN] * 9)
    ]
    return strip_page([(2000, [StripRow(123_456_789, tuple(tokens))])])


PAGES: dict[str, Callable[[Path], str]] = {
    "report": report_page,
    "curves": curves_page,
    "expert": one_expert,
    "expert of one module": few_modules,
    "similarity": similar_experts,
    "tuning": grid,
    "strips": strips,
}
"""By name: writes a page, given a folder for its files."""
