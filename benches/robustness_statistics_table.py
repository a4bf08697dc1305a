"""The tables of benches/results/robustness-statistics.json in Markdown."""

__all__ = ["table"]

TITLES = {
    "as_robust": (
        "“As robust” within one point",
        "How often this is the verdict on the mean, by the number of items, for a model that is "
        "exactly one point worse, where 2.5 % is right, and (power) for one that is as good. "
        "One wording, computed over all counts; eight wordings, 1,000 runs and 300 for power.",
    ),
    "spread": (
        "Sigma over wordings",
        "How often the 95 % intervals hold the truth, in 1,000 runs: of sigma, of the difference "
        "to a model of 1.5 times the sigma under the same wordings, and of that to one of the "
        "same.",
    ),
    "gap": (
        "The gap of seen and unseen wordings",
        "2,000 runs: how often the 95 % interval holds a gap of 5 points, how often p is below .05 "
        "without a gap, and how often a gap of 5 points is found.",
    ),
    "joined_gap": (
        "The gap of seen and unseen wordings, of several tasks together",
        "2,000 runs of a gap of 5 points in tasks that have the same wordings.",
    ),
    "cochran": (
        "Cochran's Q at 5 %",
        "8 wordings that are alike, 1,000 runs. The wording matters to whole groups of items, in "
        "no direction.",
    ),
    "wordings": (
        "A wording that is 10 points below the median",
        "500 runs, McNemar's test with Holm's correction; discordant is the share of items on "
        "which the wording and another one differ. False alarms: any wording named where all are "
        "alike.",
    ),
    "verdicts": (
        "The verdict of a comparison",
        "200 runs, margin of one point.",
    ),
    "groups": (
        "The mean difference with groups of items",
        "1,000 runs of a difference of 5 points that varies over groups by 15.",
    ),
}


def table(results: dict[str, list[dict[str, float | str]]]) -> str:
    """All tables, each with its heading and what it is about."""
    lines = ["# How often the statistics of robustness are right", ""]
    lines += ["`python benches/robustness_statistics.py`, seeds fixed.", ""]
    for name, rows in results.items():
        title, about = TITLES[name]
        lines += [f"## {title}", "", about, ""]
        lines += ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
        lines += ["| " + " | ".join(map(_shown, row.values())) + " |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def _shown(value: float | str) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".") if value else "0"
    return f"{value:,}" if isinstance(value, int) else value
