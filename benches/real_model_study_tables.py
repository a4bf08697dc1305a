"""The figures and tables of real_model_study.py."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import jinja2

from metro_fast.robustness import wilson_interval
from metro_fast.robustness.paired import paired_difference
from metro_fast.robustness.spread import wording_spread
from metro_fast.robustness.statistics import holm, mcnemar_exact
from metro_fast.scoring import semeval_macro_f1

HOW = ("likelihood, plain", "likelihood, chat", "generation, plain", "generation, chat")
PAIRS = (  # first, second; the difference is second minus first
    ("likelihood, plain", "generation, plain"),
    ("likelihood, chat", "generation, chat"),
    ("likelihood, plain", "likelihood, chat"),
    ("generation, plain", "generation, chat"),
)


def right_of(cell: dict) -> list[int]:
    return [int(a == p) for a, p in zip(cell["answers"], cell["predictions"], strict=True)]


def largest_class(cell: dict) -> int:
    return Counter(cell["answers"]).most_common(1)[0][0]


def interval_of(cell: dict) -> tuple[float, float]:
    return wilson_interval(sum(right_of(cell)), len(cell["answers"]))


def row_of(cells: Sequence[dict], labels: Sequence[str] | None) -> dict:
    """One task under one protocol, over its wordings."""
    right = [right_of(cell) for cell in cells]
    each = [statistics.mean(row) for row in right]
    items = len(cells[0]["answers"])
    # In one wording: that a model gives one answer to everything does not show in a mean.
    common = [Counter(c["predictions"]).most_common(1)[0][1] / items for c in cells]
    row = {
        "items": items,
        "wordings": len(cells),
        "chance": 1 / cells[0]["choices"],
        "largest_class": cells[0]["answers"].count(largest_class(cells[0])) / items,
        "accuracy": statistics.mean(each),
        "lowest": min(each),
        "highest": max(each),
        "widest_margin": max((high - low) / 2 for low, high in map(interval_of, cells)),
        "sigma_of_wordings": wording_spread(right).sigma if len(cells) > 1 else None,
        "most_common_prediction": statistics.mean(common),
        "no_choice_named": statistics.mean(c["predictions"].count(-1) / items for c in cells),
        "empty": statistics.mean(c["empty"] / items for c in cells),
        "cut": sum(cell["cut"] for cell in cells),
        "tied": sum(cell["tied"] for cell in cells),
        "rejects": sum(sum(cell["rejects"].values()) for cell in cells),
        "processor_minutes": sum(cell["processor_seconds"] for cell in cells) / 60,
        "minutes": sum(cell["seconds"] for cell in cells) / 60,
    }
    if labels is not None:
        scores = [
            semeval_macro_f1(
                [labels[a] for a in cell["answers"]],
                ["" if p < 0 else labels[p] for p in cell["predictions"]],
            )
            for cell in cells
        ]
        row["macro_f1"] = {
            "mean": statistics.mean(scores),
            "lowest": min(scores),
            "highest": max(scores),
        }
    return row


def compared(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]], count: int) -> dict:
    """The second minus the first on the same items, with an interval that holds for all `count`."""
    found = paired_difference(first, second, confidence=1 - 0.05 / count)
    tests = [mcnemar_exact(a, b) for a, b in zip(first, second, strict=True)]
    small = [p < 0.05 for p in holm([test.p_value for test in tests])]
    judged = list(zip(small, tests, strict=True))
    low, high = found.interval
    return {
        "difference": found.mean,
        "interval": [low, high],
        "verdict": "higher" if low > 0 else "lower" if high < 0 else "not shown",
        "wordings_higher": sum(s and t.only_second > t.only_first for s, t in judged),
        "wordings_lower": sum(s and t.only_second < t.only_first for s, t in judged),
    }


def comparisons(table: dict[str, dict[str, list[dict]]]) -> Iterator[dict]:
    """Each way of asking against another one, and against the largest class, on the same items."""
    count = len(table) * len(HOW)
    for task, cells in table.items():
        for how in HOW:
            constant = [[int(a == largest_class(c)) for a in c["answers"]] for c in cells[how]]
            found = compared(constant, [right_of(c) for c in cells[how]], count)
            yield {"task": task, "first": "largest class", "second": how, **found}
    for task, cells in table.items():
        for first, second in PAIRS:
            if any(a["ids"] != b["ids"] for a, b in zip(cells[first], cells[second], strict=True)):
                raise ValueError(f"{task}: {first} and {second} have different items")
            right = [[right_of(c) for c in cells[how]] for how in (first, second)]
            yield {"task": task, "first": first, "second": second, **compared(*right, count)}


def summary(
    cells: Sequence[dict], sizes: dict[str, int], wordings: int, labels: Sequence[str]
) -> dict:
    """The rows of the tables, the comparisons, and what is missing.

    Args:
        cells: The finished cells.
        sizes: Number of items of each task.
        wordings: Number of wordings of each task.
        labels: The relations of SemEval-2010 Task 8, in the order of the choices.
    """
    grouped: dict[str, dict[str, dict[str, dict]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        grouped[cell["task"]][cell["wording"]][cell["protocol"]] = cell
    rows, seconds, table = [], 0.0, {}
    for task in sizes:
        # A mean over wordings is compared with another one only over the same wordings.
        whole = [each for each in grouped[task].values() if set(each) == set(HOW)]
        table[task] = {how: [each[how] for each in whole] for how in HOW}
        for how in HOW:
            row = row_of(table[task][how], labels if task.startswith("semeval") else None)
            rows.append({"task": task, "protocol": how, **row})
            per_cell = row["processor_minutes"] / row["wordings"]
            seconds += 60 * per_cell * (wordings - row["wordings"])
    return {
        "rows": rows,
        "comparisons": list(comparisons(table)),
        "cells_of_the_tables": sum(len(c) for each in table.values() for c in each.values()),
        "cells_of_the_study": len(sizes) * wordings * len(HOW),
        "missing_processor_minutes": seconds / 60,
        "minutes": sum(row["minutes"] for row in rows),
        "processor_minutes": sum(row["processor_minutes"] for row in rows),
    }


def points(value: float) -> str:
    return f"{100 * value:+.1f}"


def main_table(rows: Sequence[dict]) -> Iterator[str]:
    yield (
        "| task | protocol | items x wordings | largest class | accuracy | lowest to highest "
        "| widest margin | spread | most common prediction | no choice named | minutes |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        sigma = row["sigma_of_wordings"]
        yield (
            f"| {row['task']} | {row['protocol']} | {row['items']} x {row['wordings']} "
            f"| {row['largest_class']:.1%} | {row['accuracy']:.1%} "
            f"| {row['lowest']:.1%} to {row['highest']:.1%} | {row['widest_margin']:.1%} "
            f"| {'' if sigma is None else f'{sigma:.1%}'} | {row['most_common_prediction']:.0%} "
            f"| {row['no_choice_named']:.0%} | {row['processor_minutes']:.1f} |"
        )


def wording_table(cells: Sequence[dict], asks: dict[str, dict]) -> Iterator[str]:
    yield f"| task | wording | {' | '.join(HOW)} |"
    yield "|---|---|---|---|---|---|"
    table: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for cell in cells:
        low, high = interval_of(cell)
        share = statistics.mean(right_of(cell))
        text = f"{share:.0%} ({low:.0%} to {high:.0%})"
        table[cell["task"], cell["wording"]][cell["protocol"]] = text
    for (task, wording), each in table.items():
        mark = "" if asks[wording]["asks_at_its_end"] else " (no cue)"
        shown = " | ".join(each.get(how, "") for how in HOW)
        yield f"| {task} | {wording}{mark} | {shown} |"


def comparison_table(found: Sequence[dict]) -> Iterator[str]:
    yield "| task | second | first | points | interval | verdict | wordings higher | lower |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in found:
        low, high = row["interval"]
        yield (
            f"| {row['task']} | {row['second']} | {row['first']} | {points(row['difference'])} "
            f"| {points(low)} to {points(high)} | {row['verdict']} | {row['wordings_higher']} "
            f"| {row['wordings_lower']} |"
        )


def markdown(result: dict, words: str) -> str:
    """The page: a template in words, with the tables and figures of the results.

    Args:
        result: What real_model_study.json holds.
        words: The template, which finds the results, the tables, and `row(task, protocol)` and
            `against(task, first, second)`, which look up a line of a table, and
            `cell(task, wording, protocol)`, which looks up a cell with its accuracy.
    """
    rows = {(row["task"], row["protocol"]): row for row in result["rows"]}
    pairs = {(c["task"], c["first"], c["second"]): c for c in result["comparisons"]}
    cells = {
        (c["task"], c["wording"], c["protocol"]): c | {"accuracy": statistics.mean(right_of(c))}
        for c in result["cells"]
    }
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters["pct"] = lambda value, digits=0: f"{value:.{digits}%}"
    environment.filters["points"] = points
    page: str = environment.from_string(words).render(
        **{"reread": None, "fp32": None, "speed": None} | result,
        row=lambda task, how: rows[task, how],
        cell=lambda *key: cells[key],
        against=lambda task, first, second: pairs[task, first, second],
        main_table="\n".join(main_table(result["rows"])),
        wording_table="\n".join(wording_table(result["cells"], result["endings"])),
        comparison_table="\n".join(comparison_table(result["comparisons"])),
    )
    return page
