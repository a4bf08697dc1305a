"""The results of expert_study.py: every table of the study, and the sentences of its verdicts."""

import json
import platform
import re
import statistics
import time
from importlib import metadata
from pathlib import Path

from metro_fast import robustness
from metro_fast.robustness import Study, load_reports, study_tables
from metro_fast.robustness.study.table import Table

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("metro_fast", "torch", "transformers", "peft")
TABLES = (
    "scores", "against_base", "against_original", "seen_wordings", "broken", "controls", "wordings",
)  # fmt: skip


def points(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.1f}"


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def lines_of(tables: dict[str, Table]) -> list[str]:
    """The main table: one line for each model and task."""
    originals = {(row["model"], row["task"]): row for row in tables["against_original"].rows}
    seen = {(row["task"], row["wording"]) for row in tables["wordings"].rows if row["seen"]}
    bases = {(row["model"], row["task"]): row for row in tables["against_base"].rows}
    found = [
        "| model | task | bytes | accuracy | seen | unseen | sigma | worst wording "
        "| against the base | against full size | verdict in the study "
        "| wordings lost in the study |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(tables["scores"].rows, key=order):
        key = row["model"], row["task"]
        base, original = bases.get(key), originals.get(key)
        last = original or base
        means = " | ".join(
            percent(mean_of(tables["wordings"], *key, seen, trained=trained))
            for trained in (True, False)
        )
        size = "" if base is None else f"{base['expert_bytes']:,}"
        found.append(
            f"| {row['model']} | {row['task']} | {size} | {percent(row['mean'])} | {means} "
            f"| {percent(row['sigma'])} | {row['worst']} {percent(row['worst_value'])} "
            f"| {interval(base)} | {interval(original)} "
            f"| {'' if last is None else last['verdict']} "
            f"| {'' if last is None else last['broken']} |"
        )
    return found


def order(row: dict) -> tuple[str, int, float, str]:
    """By task: the base, the expert at full size, and the compressed ones by density."""
    name, task = row["model"], row["task"]
    found = re.match(rf"{re.escape(task)} (\d+)%", name)
    if found is None:
        return task, 0 if name == "base" else 1, 0.0, name
    return task, 2, float(found[1]), name


def mean_of(
    table: Table, model: str, task: str, seen: set[tuple[str, str]], *, trained: bool
) -> float:
    """The mean over the wordings that any expert was trained with, or over the others."""
    return statistics.mean(
        row["value"]
        for row in table.rows
        if (row["model"], row["task"]) == (model, task)
        and ((task, row["wording"]) in seen) == trained
    )


def interval(row: dict | None) -> str:
    if row is None:
        return ""
    return f"{points(row['difference'])} ({points(row['low'])} to {points(row['high'])})"


def write_results(name: str, title: str, output: Path, seconds: float) -> None:
    """Write the page, the JSON of all tables, and the Markdown."""
    folder = output / "evaluation"
    study = Study.load(folder)
    tables = study_tables(study, only=TABLES)
    experts = {card: card.expert for card in study.cards if card.expert is not None}
    robustness.write_page(
        output / "report.html",
        load_reports(folder),
        title=f"{title}: two experts, and what is left of them when they are compressed",
        artifacts={card.name: expert.size_bytes for card, expert in experts.items()},
        pairs=[(expert.original or "base", card.name) for card, expert in experts.items()],
        cards=study.cards,
    )
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.platform()}, {platform.processor() or platform.machine()}",
        "versions": {each: metadata.version(each) for each in PACKAGES},
        "seconds": round(seconds),
    }
    result = about | {key: [dict(row) for row in table.rows] for key, table in tables.items()}
    (RESULTS / f"expert_study_{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    versions = "; ".join(f"{key} {value}" for key, value in about["versions"].items())
    items = {row["task"]: row["items"] for row in tables["scores"].rows}
    sizes = ", ".join(f"{count} items of {task}" for task, count in items.items())
    page = [
        f"# Two experts of {title}, at full size and compressed",
        "",
        f"{about['date']}, {about['machine']}; {versions}; made by `python benches/expert_study.py "
        f"{name}` in {seconds / 60:.0f} minutes; all figures are in "
        f"expert_study_{name}.json. Asked: {sizes}.",
        "",
        "Accuracy, and its mean under the wordings that the experts were trained with (seen) and "
        "those kept back (unseen), in percent; sigma is the standard deviation over wordings "
        "without the part of the draw of items; differences are in points, with 95 % intervals. A "
        "name with an alpha has the alpha with the lowest loss on development items, others that "
        "of least squares; where both are the same, it is listed once. The verdict and the "
        "wordings lost are those of the study, corrected for all its comparisons (Holm); the "
        "sentences below are those of each comparison by itself, so that they find more.",
        "",
        *lines_of(tables),
        "",
        "## What it says",
        "",
        *(
            f"- {row['sentence']}"
            for kind in ("against_base", "against_original")
            for row in sorted(tables[kind].rows, key=order)
            if kind == "against_original" or row["kind"] == "expert"
        ),
        "",
    ]
    (RESULTS / f"expert_study_{name}.md").write_text("\n".join(page), encoding="utf-8")
    print("\n".join(page))
