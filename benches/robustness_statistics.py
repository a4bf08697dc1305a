"""How often the verdicts and intervals of robustness are right, where the truth is known.

Run: python benches/robustness_statistics.py. It takes about 5 minutes of one core, and writes
benches/results/robustness-statistics.json and .md. Seeds are fixed.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import scipy.stats
from numpy.typing import NDArray
from robustness_statistics_table import table

from metro_fast.robustness.cochran import cochran_q
from metro_fast.robustness.gap import seen_gap
from metro_fast.robustness.kind_gaps import joined_gap
from metro_fast.robustness.paired import paired_difference, tango_interval
from metro_fast.robustness.paired_wordings import Side, compare_wordings, lost
from metro_fast.robustness.spread import spread_difference, wording_spread
from metro_fast.robustness.verdicts import (
    AS_ROBUST,
    WORSE,
    Verdicts,
    fewest_items,
    judge_interval,
    judge_wordings,
)
from metro_fast.scoring import METRICS

RESULTS = Path(__file__).parent / "results"
MARGIN = 0.01
COUNTS = (10, 20, 50, 100, 200, 368, 500, 1000, 2000, 3000, 5000)
ACCURACY = METRICS["accuracy"]

Draw = np.random.Generator
Bits = NDArray[np.bool_]

# Wordings, items, sigma, items a group, deviation of the effect of wording x item (or x group),
# and the shape of the wordings' true means.
SETTINGS = (
    (5, 100, 0.05, 1, 0.0, "normal"),
    (10, 100, 0.02, 1, 0.0, "normal"),
    (10, 250, 0.05, 1, 0.1, "normal"),
    (20, 100, 0.05, 1, 0.1, "normal"),
    (20, 1000, 0.01, 1, 0.0, "normal"),
    (20, 250, 0.08, 1, 0.0, "uniform"),
    (10, 400, 0.04, 5, 0.15, "normal"),
    (20, 400, 0.04, 20, 0.15, "normal"),
    (20, 250, 0.05, 1, 0.0, "heavy tails"),
)


def levels(draw: Draw, count: int, sigma: float, shape: str) -> NDArray[np.float64]:
    """True means of wordings around .55, with a standard deviation of sigma."""
    if shape == "uniform":
        unit = draw.uniform(-math.sqrt(3), math.sqrt(3), count)
    elif shape == "heavy tails":
        unit = draw.standard_t(4, count) / math.sqrt(2)
    else:
        unit = draw.normal(size=count)
    return 0.55 + sigma * unit


def answers(
    draw: Draw, rates: NDArray[np.float64], items: int, size: int = 1, interaction: float = 0.0
) -> Bits:
    """Right or wrong, on items that differ in difficulty, some of them in groups."""
    hard = draw.uniform(-0.15, 0.15, items // size).repeat(size)
    own = draw.normal(0, interaction, (len(rates), items // size)).repeat(size, axis=1)
    return draw.random((len(rates), items)) < rates[:, None] + hard + own


def names(items: int, size: int) -> list[str] | None:
    return None if size == 1 else [f"{i // size}" for i in range(items)]


def share(outcomes: Iterator[bool]) -> float:
    return float(np.mean(list(outcomes)))


def exact_claims(count: int, loss: float, discordant: float) -> float:
    """P("as robust") for one wording: the sum over all numbers of discordant items."""
    if count < fewest_items(MARGIN):
        return 0.0
    first, second = (discordant + loss) / 2, (discordant - loss) / 2
    most = 10 + round(count * max(first, second) + 8 * math.sqrt(count * discordant))
    claimed = np.zeros((most, most))
    for b in range(most):
        for c in range(most):
            # The ends grow with the number of discordant items, so far differences need no look.
            if abs(b - c) > MARGIN * count:
                continue
            low, high = tango_interval(b, c, count)
            claimed[b, c] = low >= -MARGIN and high <= MARGIN
    b, c = np.nonzero(claimed)
    rest = np.stack([b, c, count - b - c], axis=1)
    p = scipy.stats.multinomial.pmf(rest, count, [first, second, 1 - first - second])
    return float(p.sum())


def drawn_claims(draw: Draw, count: int, loss: float, runs: int) -> float:
    """The same for the mean of eight wordings, which go wrong together on half of the items."""

    def claims() -> Iterator[bool]:
        for _ in range(runs):
            change = np.zeros((8, count))
            for rate, sign in ((0.01 + loss / 2, -1.0), (0.01 - loss / 2, 1.0)):
                together = draw.random(count) < rate
                change += sign * together * (draw.random((8, count)) < 0.5)
                change += sign * (draw.random((8, count)) < rate / 2)
            first = np.zeros((8, count))
            got = paired_difference(first, change.clip(-1, 1))
            enough = count >= fewest_items(MARGIN)
            within = got.equal_within
            said = judge_interval(got.interval, MARGIN, equal_within=within, enough=enough)
            yield said == AS_ROBUST

    return share(claims())


def grouped_claims(draw: Draw, count: int, runs: int) -> float:
    """The same for one wording of which whole groups of five items go wrong, 1 % of them."""

    def said() -> Iterator[bool]:
        groups = names(count, 5)
        for _ in range(runs):
            lost_groups = (draw.random(count // 5) < 0.01).repeat(5)
            got = paired_difference(np.ones((1, count)), 1.0 - lost_groups[None], groups=groups)
            within = got.equal_within
            yield judge_interval(got.interval, MARGIN, equal_within=within) == AS_ROBUST

    return share(said()) if count // 5 >= fewest_items(MARGIN) else 0.0


def claims() -> list[dict[str, float]]:
    rows = []
    for count in COUNTS:
        draw = np.random.default_rng(count)
        rows.append(
            {
                "items": count,
                "at the margin, 1 % discordant": exact_claims(count, 0.01, 0.01),
                "at the margin, 2 % discordant": exact_claims(count, 0.01, 0.02),
                "at the margin, 5 % discordant": exact_claims(count, 0.01, 0.05),
                "at the margin, 8 wordings": drawn_claims(draw, count, 0.01, 1000),
                "at the margin, groups of 5": grouped_claims(draw, count, 1000),
                "power, 0.5 % discordant": exact_claims(count, 0.0, 0.005),
                "power, 2 % discordant": exact_claims(count, 0.0, 0.02),
                "power, 8 wordings": drawn_claims(draw, count, 0.0, 300),
            }
        )
    return rows


def spreads(runs: int = 1000) -> list[dict[str, float | str]]:
    rows = []
    for number, (prompts, items, sigma, size, interaction, shape) in enumerate(SETTINGS):
        draw, groups = np.random.default_rng(number), names(items, size)
        covered = {"sigma": 0, "difference": 0, "difference of equals": 0}
        for _ in range(runs):
            rates = levels(draw, prompts, sigma, shape)
            wider = 0.55 + 1.5 * (rates - 0.55)
            first = answers(draw, rates, items, size, interaction)
            second = answers(draw, wider, items, size, interaction)
            third = answers(draw, rates, items, size, interaction)
            ends = {
                "sigma": (wording_spread(first, groups=groups).interval, sigma),
                "difference": (spread_difference(first, second, groups=groups)[1], sigma / 2),
                "difference of equals": (spread_difference(first, third, groups=groups)[1], 0.0),
            }
            for name, ((low, high), truth) in ends.items():
                covered[name] += low <= truth <= high
        rows.append(
            {
                "wordings": prompts,
                "items": items,
                "sigma": sigma,
                "items a group": size,
                "wording x item": interaction,
                "wordings are": shape,
                **{f"{name} covered": count / runs for name, count in covered.items()},
            }
        )
    return rows


GAPS = (
    (5, 5, 100, 0.05, 1, 0.0),
    (10, 10, 100, 0.0, 1, 0.0),
    (10, 10, 100, 0.02, 1, 0.0),
    (20, 20, 100, 0.03, 1, 0.0),
    (20, 20, 100, 0.05, 1, 0.1),
    (10, 30, 250, 0.05, 1, 0.0),
    (10, 10, 400, 0.04, 10, 0.1),
    (8, 8, 1000, 0.05, 1, 0.1),
)


def gaps(runs: int = 2000) -> list[dict[str, float]]:
    rows = []
    for number, (ours, theirs, items, sigma, size, interaction) in enumerate(GAPS):
        draw, groups = np.random.default_rng(100 + number), names(items, size)
        seen = [True] * ours + [False] * theirs
        covered = found = alarms = 0
        for _ in range(runs):
            rates = levels(draw, ours + theirs, sigma, "normal")
            x = answers(draw, rates, items, size, interaction)
            alarms += (seen_gap(x, seen, groups=groups).p_value or 0) < 0.05
            rates[:ours] += 0.05
            gap = seen_gap(answers(draw, rates, items, size, interaction), seen, groups=groups)
            covered += gap.interval.low <= 0.05 <= gap.interval.high
            found += gap.interval.low > 0
        rows.append(
            {
                "seen": ours,
                "unseen": theirs,
                "items": items,
                "sigma": sigma,
                "items a group": size,
                "wording x item": interaction,
                "covered": covered / runs,
                "p < .05 without a gap": alarms / runs,
                "5 points found": found / runs,
            }
        )
    return rows


# Seen and unseen wordings, items of each task, sigma, of which each task has its own share.
JOINED = (
    (10, 10, (100, 100), 0.04, 0.0),
    (10, 10, (100, 300), 0.04, 0.03),
    (20, 20, (50, 100, 200), 0.05, 0.03),
    (5, 15, (100, 400), 0.05, 0.0),
)


def joined_gaps(runs: int = 2000) -> list[dict[str, float | str]]:
    """Several tasks under the same wordings, whose effects they share in part or wholly."""
    rows: list[dict[str, float | str]] = []
    for number, (ours, theirs, sizes, sigma, own) in enumerate(JOINED):
        draw = np.random.default_rng(500 + number)
        seen = [True] * ours + [False] * theirs
        groups = [[str(i) for i in range(size)] for size in sizes]
        covered = alone = 0
        for _ in range(runs):
            rates = levels(draw, ours + theirs, sigma, "normal")
            rates[:ours] += 0.05
            tasks = [
                answers(draw, rates + draw.normal(0, own, len(rates)), size).astype(float)
                for size in sizes
            ]
            gap = joined_gap(tasks, seen, groups)
            covered += gap.interval.low <= 0.05 <= gap.interval.high
            apart = [seen_gap(each, seen) for each in tasks]
            error = math.sqrt(sum((a.interval.high - a.gap) ** 2 for a in apart)) / len(tasks)
            alone += abs(sum(a.gap for a in apart) / len(tasks) - 0.05) <= error
        rows.append(
            {
                "seen": ours,
                "unseen": theirs,
                "items of the tasks": " + ".join(map(str, sizes)),
                "sigma that the tasks share": sigma,
                "sigma of a task's own": own,
                "covered": covered / runs,
                "covered as if each task drew its wordings": alone / runs,
            }
        )
    return rows


def q_rates(runs: int = 1000) -> list[dict[str, float]]:
    rows = []
    for count, size in ((10, 5), (10, 10), (10, 20), (40, 5), (40, 10), (40, 20)):
        draw, groups = np.random.default_rng(size), names(count * size, size)
        pairs = []
        for run in range(runs):
            # The wording matters for a whole passage, and in no direction over all of them.
            rate = 0.55 + draw.normal(0, 0.15, (8, count)).repeat(size, axis=1)
            x = draw.random(rate.shape) < rate
            pairs.append((cochran_q(x, groups=groups, seed=run).p_value, cochran_q(x).p_value))
        grouped, alone = np.mean(np.array(pairs) <= 0.05, axis=0)
        rows.append(
            {
                "groups": count,
                "items a group": size,
                "rejected": float(grouped),
                "rejected without groups": float(alone),
            }
        )
    return rows


def redrawn(draw: Draw, base: Bits, count: int, noise: float) -> Bits:
    """Wordings that answer as the base does, except for a share of items, answered again."""
    again = draw.random((count, base.size)) < noise
    return np.where(again, draw.random((count, base.size)) < base.mean(), base)


def wordings(runs: int = 500) -> list[dict[str, float]]:
    rows = []
    for prompts, items, noise in ((10, 250, 0.04), (20, 250, 0.04), (20, 250, 0.1), (20, 500, 0.2)):
        draw = np.random.default_rng(prompts)
        found = alarms = 0
        shares = []
        for _ in range(runs):
            base = draw.random(items) < 0.7
            x = redrawn(draw, base, prompts, noise)
            alarms += bool(lost(_against_median(x)))
            right = np.flatnonzero(x[3])
            # 10 points below what the median has.
            drop = max(0, round(items * (x[3].mean() - np.median(x.mean(1)) + 0.1)))
            x[3, draw.choice(right, drop, replace=False)] = False
            named = lost(_against_median(x))
            found += "3" in {row.instruction_id for row in named}
            shares.append((x[3] != x[0]).mean())
        rows.append(
            {
                "wordings": prompts,
                "items": items,
                "discordant": float(np.mean(shares)),
                "10 points found": found / runs,
                "false alarms": alarms / runs,
            }
        )
    return rows


def side(row: Bits) -> Side:
    values = row.astype(np.float64)
    return Side(float(values.mean()), np.stack([values, np.ones(len(row))], axis=1), values)


def _against_median(x: Bits) -> tuple:
    middle = int(np.argsort(x.mean(1), kind="stable")[(len(x) - 1) // 2])
    sides = [side(row) for row in x]
    others = [p for p in range(len(x)) if p != middle]
    return compare_wordings(
        ACCURACY, [str(p) for p in others], [(sides[middle], sides[p]) for p in others]
    )


def judged(first: Bits, second: Bits) -> Verdicts:
    """The three verdicts of `compare`."""
    enough = first.shape[1] >= fewest_items(MARGIN)
    pairs = [(side(a), side(b)) for a, b in zip(first, second, strict=True)]
    rows = compare_wordings(ACCURACY, [str(p) for p in range(len(first))], pairs)
    spread = spread_difference(first, second).interval
    return Verdicts(
        judge_interval(paired_difference(first, second).interval, MARGIN, enough=enough),
        judge_interval(spread, MARGIN, enough=enough, more_is=WORSE),
        judge_wordings(rows, MARGIN, enough=enough),
    )


def overall(runs: int = 200) -> list[dict[str, float | str]]:
    rows = []
    for name, items, change in (
        ("alike, 2 % discordant", 1000, None),
        ("alike, 2 % discordant", 4000, None),
        ("mean + 3 points, one wording - 40", 300, "hidden"),
    ):
        draw, found = np.random.default_rng(items), []
        prompts = 20 if change else 8
        for _ in range(runs):
            base = draw.random(items) < 0.6
            first = redrawn(draw, base, prompts, 0.1)
            second = redrawn_from(draw, first, 0.02)
            if change:
                second |= draw.random(first.shape) < 0.125
                second[5] = first[5]
                rights = np.flatnonzero(first[5])
                second[5, draw.choice(rights, round(0.4 * items), replace=False)] = False
            found.append(judged(first, second))
        row: dict[str, float | str] = {"models": name, "wordings": prompts, "items": items}
        for verdict in ("as robust", "better", "worse", "undecided"):
            row[f"said {verdict}"] = share(v.overall == verdict for v in found)
        row["mean alone: better"] = share(v.mean == "better" for v in found)
        rows.append(row)
    return rows


def redrawn_from(draw: Draw, first: Bits, discordant: float) -> Bits:
    """Another model that is as good: as many answers go wrong as become right, on average."""
    rate = first.mean()
    up, down = discordant / 2 / (1 - rate), discordant / 2 / rate
    luck = draw.random(first.shape)
    return np.where(first, luck >= down, luck < up)


def clusters(runs: int = 1000) -> list[dict[str, float]]:
    rows = []
    for count in (5, 10, 30):
        draw, covered, size = np.random.default_rng(count), 0, 20
        groups = names(count * size, size)
        normal = 0
        for _ in range(runs):
            shift = draw.normal(0.05, 0.15, count).repeat(size)
            x = draw.random((4, count * size)) < 0.5
            y = draw.random((4, count * size)) < 0.5 + shift
            got = paired_difference(x, y, groups=groups)
            covered += got.interval.low <= 0.05 <= got.interval.high
            normal += abs(got.mean - 0.05) <= 1.96 * got.standard_error
        rows.append(
            {
                "groups": count,
                "items a group": size,
                "covered": covered / runs,
                "covered by a normal interval": normal / runs,
            }
        )
    return rows


TABLES: dict[str, Callable[[], list]] = {
    "as_robust": claims,
    "spread": spreads,
    "gap": gaps,
    "joined_gap": joined_gaps,
    "cochran": q_rates,
    "wordings": wordings,
    "verdicts": overall,
    "groups": clusters,
}


def main() -> None:
    results = {name: make() for name, make in TABLES.items()}
    for rows in results.values():
        for row in rows:
            row.update({k: round(v, 4) for k, v in row.items() if isinstance(v, float)})
    RESULTS.joinpath("robustness-statistics.json").write_text(json.dumps(results, indent=1) + "\n")
    text = table(results)
    RESULTS.joinpath("robustness-statistics.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
