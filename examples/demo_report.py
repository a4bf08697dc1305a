"""The tables, the page and the files that the demo makes of its results."""

import json
from pathlib import Path
from typing import Any

import demo_data
from rich.console import Console
from rich.table import Table

from metro_fast import robustness
from metro_fast.robustness import Interval, Study, wilson_interval

OUTPUT = Path("demo-output")

console = Console()


def rules(task: str, records: list[dict[str, Any]]) -> dict[str, float]:
    """Scores of answers that ignore the question, computed on the same items as the test."""
    blind = {"never reads the passage": demo_data.never_reads_the_passage(records)}
    if task == "qa":
        blind["never reads the question"] = max(
            demo_data.never_reads_the_question(records).values()
        )
    return blind


def held_out_log() -> list[dict[str, float]]:
    """The figures of the pretraining stage on its held-out rows."""
    lines = (OUTPUT / "pretrained" / "metrics.jsonl").read_text().splitlines()
    # The last step is evaluated twice if it falls on the interval: keep one row per step.
    by_step = {r["step"]: r for r in map(json.loads, lines) if "eval_mlm_loss" in r}
    return list(by_step.values())


def print_pretraining() -> None:
    """METRO's figures on held-out text, by step.

    RTD's accuracy is next to the share of tokens that were not replaced: a detector that finds
    nothing has that accuracy, so its AUC and recall are what to read.
    """
    names = ("mlm_loss", "lm_loss", "aux_accuracy", "rtd_auc", "rtd_recall", "rtd_accuracy")
    rows = [
        [str(record["step"]), *(record[f"eval_{name}"] for name in names),
         1 - record["eval_replace_ratio"]]
        for record in held_out_log()
    ]  # fmt: skip
    print_table(
        "METRO on held-out text", ["step", *(n.replace("_", " ") for n in names), "kept"], rows
    )


def pretraining_curves() -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Curves of the held-out rows, from the log of the pretraining stage."""
    log = held_out_log()
    charts = {
        "METRO pretraining: loss on held-out text": ("mlm_loss", "lm_loss"),
        "METRO pretraining: the auxiliary model and the detector": (
            "aux_accuracy", "rtd_auc", "rtd_recall",
        ),
    }  # fmt: skip
    return {
        heading: {
            name: [(record["step"], record[f"eval_{name}"]) for record in log] for name in names
        }
        for heading, names in charts.items()
    }


def write_page(study: Study, baselines: dict[str, dict[str, float]]) -> Path:
    """The offline page: the model, its experts, the experts compressed."""
    experts = {card: card.expert for card in study.cards if card.expert is not None}
    return robustness.write_page(
        OUTPUT / "report.html",
        [member.report for member in study.members],
        title="A tiny T5, its experts, and their instructions",
        baselines=baselines,
        artifacts={card.name: expert.size_bytes for card, expert in experts.items()},
        curves=pretraining_curves(),
        pairs=[(expert.original or "model", card.name) for card, expert in experts.items()],
        cards=study.cards,
    )


def print_results(study: Study, baselines: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Accuracy by instruction, the rules that do not read, and the loss from compression.

    Returns:
        The same as plain values, by task.
    """
    reports = {member.card.name: member.report for member in study.members}
    results: dict[str, Any] = {}
    for task in ("re", "qa"):
        names = ["model", f"{task} expert", f"{task} expert, compressed"]
        summaries = [reports[name].summary(task) for name in names]
        rows = [
            [first.instruction_id, "seen" if first.seen else "unseen", *(
                f"{score.value:.3f}" for score in (first, *rest)
            )]
            for first, *rest in zip(*(s.instructions for s in summaries), strict=True)
        ]  # fmt: skip
        for seen, label in ((True, "mean, seen"), (False, "mean, unseen")):
            means = [mean_accuracy(summary, seen) for summary in summaries]
            rows.append([label, "", *(f"{mean:.3f}" for mean in means)])
        lows = [seen_interval(summary).low for summary in summaries]
        rows.append(["Wilson 95 % low, seen", "", *(f"{low:.3f}" for low in lows)])
        print_table(
            f"{task}: accuracy on {summaries[0].item_count} test items",
            ["instruction", "", *names],
            rows,
        )
        lines = {"majority label": summaries[0].majority_share, **baselines[task]}
        console.print("   ".join(f"{name}: {value:.3f}" for name, value in lines.items()))
        comparison = robustness.compare(reports[names[1]], reports[names[2]], tasks=[task])
        cost = comparison.task(task).difference
        console.print(comparison.sentence(task))
        sizes = [
            card.expert.size_bytes for card in map(study.card, names[1:]) if card.expert is not None
        ]
        console.print(f"bytes on disk: {sizes[0]:,} (fp32) to {sizes[1]:,}\n")
        results[task] = {
            "rules": lines,
            "models": {summary.model_name: summary.to_record() for summary in summaries},
            "wilson_low_seen": dict(zip(names, lows, strict=True)),
            "compressed_minus_expert": [cost.mean, *cost.interval],
            "bytes": dict(zip(names[1:], sizes, strict=True)),
        }
    return results


def mean_accuracy(summary: Any, seen: bool) -> float:
    """Mean over the seen, or over the unseen, instructions."""
    chosen = [row.value for row in summary.instructions if row.seen == seen]
    return sum(chosen) / len(chosen)


def seen_interval(summary: Any) -> Interval:
    """Wilson interval of the mean seen accuracy, at n = the items, not items x wordings.

    The wordings share the items, so their answers are not independent: this is the wide one.
    """
    return wilson_interval(
        round(mean_accuracy(summary, True) * summary.item_count), summary.item_count
    )


def print_table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table; numbers are right-aligned."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row))
    console.print(table)
