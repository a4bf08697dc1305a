"""The kinds of pictures: intervals, slopes, curves and stacked bars, drawn into a figure."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from metro_fast.robustness.page.pictures import COLORS, INK, QUIET, RED, RULE

__all__ = ["Bar", "Estimate", "Line", "curves", "intervals", "lines", "stacked"]

_MARKS = ("o", "s", "^", "D", "v", "P")
_HATCHES = ("", "////", "....")
_DASHES = ("-", (0, (6, 3)), (0, (2, 2)), (0, (8, 3, 2, 3)), (0, (1, 2)), (0, (10, 4)))


class Estimate(NamedTuple):
    """A row of a picture of intervals: its label, its number, its interval, and what it is."""

    label: str
    value: float
    low: float
    high: float
    about: str
    style: int = 0


class Line(NamedTuple):
    """A line of slopes: its name, its (place, value, label) points, and whether it stands out."""

    name: str
    points: Sequence[tuple[int, float, str]]
    marked: bool


class Bar(NamedTuple):
    """A stacked bar: its label, and the share and label of each of its parts."""

    label: str
    parts: Sequence[tuple[float, str]]


def _lines_of(label: str, width: int = 24) -> str:
    return "\n".join(textwrap.wrap(label, width)[:4]) or label


def _rows(axis: Any, labels: Sequence[str]) -> None:
    """Rows from top to bottom with their labels."""
    axis.set_yticks(range(len(labels)), [_lines_of(label) for label in labels])
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")
    axis.set_axisbelow(True)


def intervals(
    figure: Any,
    rows: Sequence[Estimate],
    *,
    unit: str,
    kinds: Sequence[str] = (),
    margin: float | None = None,
    zero: bool = True,
) -> Mapping[str, str]:
    """Estimates with their intervals, one a row, and a line at zero.

    Args:
        figure: The figure.
        rows: The rows, from top to bottom.
        unit: Label of the axis.
        kinds: Names of the styles, if there are several.
        margin: Half the width of a band around zero.
        zero: Whether zero has a line.

    Returns:
        The label of each mark.
    """
    axis, labels = figure.subplots(), {}
    if margin is not None:
        axis.axvspan(-margin, margin, color=RULE, linewidth=0)
    if zero:
        axis.axvline(0, color=INK, linewidth=1)
    for number, row in enumerate(rows):
        gid = f"mark-{number}"
        color = COLORS[row.style % len(COLORS)]
        line = axis.plot([row.low, row.high], [number, number], color=color, linewidth=2)[0]
        mark = axis.plot(row.value, number, _MARKS[row.style % 6], color=color, markersize=6)[0]
        line.set_gid(f"{gid}-line")
        mark.set_gid(gid)
        labels[gid] = labels[f"{gid}-line"] = row.about
    _rows(axis, [row.label for row in rows])
    axis.set_xlabel(unit)
    for style, name in enumerate(kinds):
        axis.plot([], [], _MARKS[style % 6], color=COLORS[style % 6], label=name)
    if kinds:
        figure.legend(loc="outside upper left", ncols=len(kinds), frameon=False)
    return labels


def lines(
    figure: Any, panels: Sequence[tuple[Sequence[str], Sequence[Line]]], *, unit: str
) -> Mapping[str, str]:
    """Slopes between models: a panel for each reference, a line for each task.

    Args:
        figure: The figure.
        panels: The names of the models of each panel, and its lines.
        unit: Label of the axis.

    Returns:
        The label of each mark.
    """
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    labels: dict[str, str] = {}
    for number, (axis, (names, drawn)) in enumerate(zip(axes, panels, strict=True)):
        for k, line in enumerate(drawn):
            gid = f"line-{number}-{k}"
            color, width = (RED, 2.0) if line.marked else (QUIET, 0.9)
            xs, ys = [p[0] for p in line.points], [p[1] for p in line.points]
            style = (0, (4, 2)) if line.marked else "-"
            axis.plot(xs, ys, color=color, linewidth=width, linestyle=style, gid=gid)
            labels[gid] = line.name
            for place, (x, y, about) in enumerate(line.points):
                point = axis.plot(x, y, "v" if line.marked else "o", color=color, markersize=4)[0]
                point.set_gid(f"{gid}-{place}")
                labels[f"{gid}-{place}"] = about
            if line.marked or len(drawn) <= 4:
                axis.annotate(
                    _lines_of(line.name, 18), (xs[-1], ys[-1]), (5, 0), textcoords="offset points",
                    va="center", color=color, fontsize=8.5, annotation_clip=False,
                )  # fmt: skip
        axis.set_xticks(range(len(names)), [_lines_of(name, 14) for name in names])
        axis.set_xlim(-0.2, len(names) - 0.8 + 0.35)
        axis.grid(axis="y")
        axis.set_axisbelow(True)
    axes[0].set_ylabel(unit)
    return labels


def curves(
    figure: Any,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x: str,
    y: str,
    logarithmic: bool = False,
    marks: Mapping[str, Sequence[str]] | None = None,
) -> Mapping[str, str]:
    """Curves, which colors and dashes tell apart.

    Args:
        figure: The figure.
        series: The points of each curve by its name.
        x: Label of the axis of x.
        y: Label of the axis of y.
        logarithmic: Whether x has a logarithmic scale.
        marks: The label of each point by name of curve; without them points have no marks.

    Returns:
        The label of each mark.
    """
    axis, labels = figure.subplots(), {}
    for number, (name, points) in enumerate(series.items()):
        color, gid = COLORS[number % 6], f"curve-{number}"
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        dashes = _DASHES[number % 6]
        axis.plot(xs, ys, color=color, linestyle=dashes, gid=gid, label=_lines_of(name, 60))
        labels[gid] = name
        for place, about in enumerate((marks or {}).get(name, ())):
            point = axis.plot(xs[place], ys[place], _MARKS[number % 6], color=color, markersize=5)
            point[0].set_gid(f"{gid}-{place}")
            labels[f"{gid}-{place}"] = about
    if logarithmic:
        axis.set_xscale("log")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(axis="y")
    axis.set_axisbelow(True)
    figure.legend(loc="outside upper left", ncols=1 if _long(series) else 3, frameon=False)
    return labels


def _long(names: Mapping[str, Any]) -> bool:
    return max(map(len, names)) > 20


def stacked(
    figure: Any, rows: Sequence[Bar], parts: Sequence[str], *, unit: str
) -> Mapping[str, str]:
    """Bars of parts that colors and hatches tell apart.

    Args:
        figure: The figure.
        rows: The bars, from top to bottom.
        parts: Names of the parts.
        unit: Label of the axis.

    Returns:
        The label of each mark.
    """
    axis, labels = figure.subplots(), {}
    colors = (RED, COLORS[2], QUIET)
    for number, row in enumerate(rows):
        start = 0.0
        for part, (share, about) in enumerate(row.parts):
            gid = f"bar-{number}-{part}"
            (bar,) = axis.barh(
                number, share, 0.6, start, color=colors[part % 3], hatch=_HATCHES[part % 3]
            )
            bar.set_gid(gid)
            labels[gid] = about
            start += share
    for part, name in enumerate(parts):
        axis.barh(0, 0, color=colors[part % 3], hatch=_HATCHES[part % 3], label=name)
    _rows(axis, [row.label for row in rows])
    axis.set_xlabel(unit)
    figure.legend(loc="outside upper left", ncols=len(parts), frameon=False)
    return labels
