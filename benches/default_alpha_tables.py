"""The tables of default_alpha.json, beside what other benchmarks say of alpha."""

import json
import math
from pathlib import Path
from typing import Any

from real_adapters_tables import plain_table

RESULTS = Path(__file__).parent / "results"
T5 = (0.05, 0.1, 0.2, 0.5)


def correct(margins: list[float], labels: list[int]) -> list[bool]:
    return [(margin > 0) == bool(label) for margin, label in zip(margins, labels, strict=True)]


def effect_kept(margins: list[float], whole: list[float], base: list[float]) -> float:
    """The slope of one expert's effect on the items' margins on another's."""
    moved = [(m - b, w - b) for m, w, b in zip(margins, whole, base, strict=True)]
    return sum(ours * theirs for ours, theirs in moved) / sum(w * w for _, w in moved)


def answer_rows(run: dict[str, Any]) -> list[dict[str, str]]:
    """One row for the base, the whole expert and each compressed form."""
    labels, base, whole = run["labels"], run["base"], run["whole"]
    right = correct(whole, labels)

    def row(name: str, margins: list[float], form: dict[str, Any] | None = None) -> dict[str, str]:
        found = correct(margins, labels)
        share = sum(found) / len(found)
        error = math.sqrt(share * (1 - share) / len(found))
        flips = sum(a != b for a, b in zip(found, right, strict=True))
        size = "" if form is None else f"{form['bytes']:,}"
        return {
            "expert": name,
            "bytes": f"{run['bytes']:,}" if margins is whole else size,
            "|dW'| / |dW|": "" if form is None else f"{form['norm_ratio']:.2f}",
            "effect kept": f"{effect_kept(margins, whole, base):.0%}",
            "accuracy": f"{share:.1%} ± {error:.1%}",
            "answers unlike the whole expert's": f"{flips / len(found):.1%}",
        }

    rows = [row("none", base), row("whole", whole)]
    for form in run["forms"]:
        alpha = form["alpha"]
        found = ", ".join(f"{value:.2f}" for value in sorted(form["alphas"].values()))
        name = f"least squares ({found})" if isinstance(alpha, str) else f"alpha {alpha:g}"
        rows.append(row(f"{form['density']:.0%}, {name}", form["margins"], form))
    return rows


def length_rows() -> list[dict[str, str]]:
    """Median lengths of the updates of real adapters at both rules."""
    adapters = json.loads((RESULTS / "real_adapters.json").read_text("utf-8"))["adapters"]
    return [
        {"adapter": name}
        | {
            f"{row['density']:.0%}": "{alpha 1:.2f} / {least squares:.2f}".format(
                **row["norm_ratio_median"]
            )
            for row in rows
        }
        for name, rows in adapters.items()
    ]


def t5_rows() -> list[dict[str, str]]:
    """Accuracy of the demo's experts on its development items."""
    tasks = json.loads((RESULTS / "demo-cpu.json").read_text("utf-8"))["development"]
    rows = []
    for task, table in tasks.items():
        for alpha in ("least_squares", 1.0, 2.0, 3.0):
            name = "least squares" if isinstance(alpha, str) else f"alpha {alpha:g}"
            found = {f"{k:.0%}": f"{table[f'density {k:g}, alpha {alpha}']:.3f}" for k in T5}
            rows.append({"expert": task, "scale": name} | found)
    return rows


def markdown(result: dict[str, Any]) -> str:
    training = result["training"]
    lines = [
        "# The default alpha\n",
        f"{result['date']}, {result['machine']}; "
        + ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        + ". Made by `python benches/default_alpha.py`; the margin of every item is in "
        "default_alpha.json.",
        "\n## Answers of a real model\n",
        "SmolLM2-135M-Instruct with a LoRA (r = {r}, lora_alpha = {lora_alpha}, {targets}; "
        "{steps} steps of {batch}, AdamW at {learning_rate:g}).".format(
            targets=" and ".join(training["target_modules"]), **training
        )
        + " The effect is how far an expert moves the log-odds of the two answers away from the "
        "base's; the share kept is the slope over items. Accuracies have their standard error. "
        "Behind least squares are the alphas that it found for A and B.",
    ]
    lines += [
        f"\nPolarity of sentences from film reviews, {len(result['labels'])} items that the "
        "training has not seen:\n",
        *plain_table(answer_rows(result)),
        "\n## Lengths of published adapters\n",
        "The median over modules of |dW'| / |dW|, at alpha 1 / at least squares, by density "
        "(benches/real_adapters.py).\n",
        *plain_table(length_rows()),
        "\n## Two experts of a small T5\n",
        "Accuracy on 400 development items by density (examples/demo.py, one seed).\n",
        *plain_table(t5_rows()),
    ]
    return "\n".join(lines) + "\n"
