"""The figures and tables of real_model_study.py."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence

from metro_fast.scoring import semeval_macro_f1

WRITTEN_BY_HAND = "## What it says"
HOW = ("likelihood, plain", "likelihood, chat", "generation, plain", "generation, chat")


def accuracy(cell: dict) -> float:
    return sum(map(int.__eq__, cell["predictions"], cell["answers"])) / len(cell["answers"])


def row_of(cells: Sequence[dict], labels: Sequence[str] | None) -> dict:
    """One task under one protocol, over its wordings."""
    each = [accuracy(cell) for cell in cells]
    predictions = [p for cell in cells for p in cell["predictions"]]
    # In one wording: that a model gives one answer to everything does not show in a mean.
    common = [Counter(c["predictions"]).most_common(1)[0][1] / len(c["predictions"]) for c in cells]
    row = {
        "items": len(cells[0]["answers"]),
        "wordings": len(cells),
        "chance": 1 / cells[0]["choices"],
        "largest_class": Counter(cells[0]["answers"]).most_common(1)[0][1]
        / len(cells[0]["answers"]),
        "accuracy": statistics.mean(each),
        "lowest": min(each),
        "highest": max(each),
        # Of one wording, by the normal approximation at one half, which is the widest.
        "half_width_95": 1.96 * 0.5 / math.sqrt(len(cells[0]["answers"])),
        "most_common_prediction": statistics.mean(common),
        "no_choice_named": predictions.count(-1) / len(predictions),
        "cut": sum(cell["cut"] for cell in cells),
        "tied": sum(cell["tied"] for cell in cells),
        "rejects": sum(sum(cell["rejects"].values()) for cell in cells),
        "processor_minutes": sum(cell["processor_seconds"] for cell in cells) / 60,
        "minutes": sum(cell["seconds"] for cell in cells) / 60,
    }
    if labels is not None:
        gold = [labels[a] for cell in cells for a in cell["answers"]]
        row["macro_f1"] = semeval_macro_f1(gold, ["" if p < 0 else labels[p] for p in predictions])
    return row


def summary(
    cells: Sequence[dict], full_size: dict[str, int], wordings: int, labels: Sequence[str]
) -> dict:
    """The rows of the table, and the processor hours of the full size at the speed of these cells.

    Args:
        cells: The finished cells.
        full_size: Number of items of each task at full size.
        wordings: Number of wordings of each task at full size.
        labels: The relations of SemEval-2010 Task 8, in the order of the choices.
    """
    grouped: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for cell in cells:
        grouped[cell["task"], cell["protocol"]].append(cell)
    rows, hours = [], 0.0
    for task, items in full_size.items():
        # A mean over wordings is compared with another one only over the same wordings.
        each = [{c["wording"] for c in grouped[task, how]} for how in HOW]
        common = set.intersection(*each)
        for how in HOW:
            chosen = [c for c in grouped[task, how] if c["wording"] in common]
            if not chosen:
                continue
            row = row_of(chosen, labels if task.startswith("semeval") else None)
            rows.append({"task": task, "protocol": how, **row})
            answers = row["items"] * row["wordings"]
            hours += row["processor_minutes"] / 60 * items * wordings / answers
    return {
        "rows": rows,
        "minutes": sum(cell["seconds"] for cell in cells) / 60,
        "processor_minutes": sum(cell["processor_seconds"] for cell in cells) / 60,
        "full_size_processor_hours": hours,
    }


def markdown(result: dict, before: str) -> str:
    """The page; what `before` holds from its hand-written heading on is kept."""
    full = ", ".join(f"{name} {items}" for name, items in result["full_size"].items())
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    f1 = ", ".join(
        f"{row['protocol']} {row['macro_f1']:.1%}" for row in result["rows"] if "macro_f1" in row
    )
    tied, cut, rejects = (sum(r[k] for r in result["rows"]) for k in ("tied", "cut", "rejects"))
    lines = [
        "# SmolLM2-135M-Instruct under many wordings\n",
        f"{result['date']}, {result['machine']}; {versions}. Made by `python "
        "benches/real_model_study.py`; every prediction is in real_model_study.json.\n",
        "The model has 4-bit weights that were unpacked to fp32 (`make real-model`). Likelihood is "
        "the protocol `lm_eval` and generation `generate_match` with at most "
        f"{result['new_tokens']} new tokens, each plain and inside the model's chat template. The "
        "wordings are by turns close to those of instruction tuning and far from them. Accuracy is "
        "the mean over wordings, between the lowest and the highest; a written answer that names "
        "no choice is wrong. The margin is half the width of a 95 % interval for one wording. The "
        "most common prediction is its share in one wording, averaged over wordings; the largest "
        "class is what one answer to every item would get at best.\n",
        "| task | protocol | items x wordings | chance | largest class | accuracy | lowest to "
        "highest | margin | most common prediction | no choice named | processor minutes |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {row['task']} | {row['protocol']} | {row['items']} x {row['wordings']} "
            f"| {row['chance']:.0%} | {row['largest_class']:.0%} | {row['accuracy']:.0%} "
            f"| {row['lowest']:.0%} to {row['highest']:.0%} | {row['half_width_95']:.0%} "
            f"| {row['most_common_prediction']:.0%} | {row['no_choice_named']:.0%} "
            f"| {row['processor_minutes']:.1f} |"
            for row in result["rows"]
        ),
        f"\nMacro F1 of SemEval's scorer over all wordings: {f1}. Items that a wording rejected: "
        f"{rejects}; inputs that were cut: {cut}; ties for the best choice: {tied}.\n",
        f"All cells took {result['processor_minutes']:.0f} minutes of processor time on one thread "
        f"each, {result['minutes']:.0f} minutes of the clock, summed over cells, on a machine that "
        f"was busy with other work. At this speed the full size ({full} items, "
        f"{result['full_wordings']} wordings) takes "
        f"{result['full_size_processor_hours']:.1f} hours of one core.\n",
    ]
    _, found, by_hand = before.partition(WRITTEN_BY_HAND)
    return "\n".join(lines) + (f"\n{found}{by_hand}" if found else "")
