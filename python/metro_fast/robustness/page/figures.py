"""Pictures of the page, as SVG text.

They are drawn here and not by matplotlib for three reasons. Positions along x are percentages, so a
picture fits a phone and a printed page while its text keeps its size. Pointing at a mark shows its
number. And a picture is a few kB of text, which a screen reader can read.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from metro_fast._shown import quoted
from metro_fast._svg import limits, room, round_step, svg
from metro_fast.errors import MetroFastError

__all__ = ["DASHES", "Dot", "StripRow", "interval_chart", "line_chart", "value_strip"]

_ROW = 72  # height of a model's row without its label, in pixels
_LINE = 16  # height of a line of a label
_LETTERS = 44  # letters of a line that is as wide as the picture on a phone
_MINUS = "\N{MINUS SIGN}"
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 3", "10 4")
"""The dashes of each curve, in the order of their colors."""


@dataclass(frozen=True)
class Dot:
    """One instruction: its value, whether it was seen, and the label shown when pointed at."""

    value: float
    seen: bool
    label: str


@dataclass(frozen=True)
class StripRow:
    """One model: its instructions as dots, and the same mean as in the tables."""

    label: str
    dots: tuple[Dot, ...]
    mean: float


def value_strip(
    rows: Sequence[StripRow], baselines: Mapping[str, float], *, description: str
) -> str:
    """The metric over instructions: a box plot with its dots for each model, lines for baselines.

    The box spans the quartiles, the bar in it is the median, the whiskers end at the worst and the
    best instruction, and the diamond is the mean. Seen instructions are filled dots above the
    middle, unseen ones are hollow dots below it.

    Args:
        rows: The models, with at least one dot each; values from 0 to 1.
        baselines: Label and value of each vertical line.
        description: A description for readers who cannot see the picture.

    Returns:
        An `<svg>` of full width.
    """
    # The lowest is at the top: its label extends to the right, where other lines begin below it.
    labels, top = [], 0
    for label, value in sorted(baselines.items(), key=lambda baseline: baseline[1]):
        words, lines = _beside(100 * value, top, f"{label} {100 * value:.1f} %")
        labels.append((100 * value, top, words))
        top += lines * _LINE + 2
    top += 6
    heights = [_LINE * _lines(len(row.label) + 26) for row in rows]
    tops = [top + sum(heights[:r]) + _ROW * r for r in range(len(rows))]
    height = top + sum(heights) + _ROW * len(rows) + 22
    parts = [_axis(top, height, [i / 5 for i in range(6)], lambda v: 100 * v, "{:.0%}")]
    for x, start, words in labels:
        stretches = [(start + 2, top + 2)]
        stretches += [(t + h + 4, t + h + _ROW - 2) for t, h in zip(tops, heights, strict=True)]
        parts += [
            f'<line class="base" x1="{x:.2f}%" x2="{x:.2f}%" y1="{first}" y2="{last}"/>'
            for first, last in stretches
        ]
        parts.append(words)
    parts += map(_strip_row, rows, tops, heights)
    return svg(parts, height, description)


def interval_chart(
    rows: Sequence[tuple[str, float, float, float]],
    *,
    description: str,
    unit: str = "points",
    margin: float | None = None,
) -> str:
    """Estimates with their intervals around a line at zero.

    Args:
        rows: (label, estimate, low, high), in the unit that is shown.
        description: A description for readers who cannot see the picture.
        unit: Name of the unit, shown when a mark is pointed at.
        margin: Half the width of a band around zero within which values count as equal.

    Returns:
        An `<svg>` of full width.
    """
    values = [v for row in rows for v in row[1:]]
    half = 0.0 if margin is None else margin
    low, high = min(0.0, -half, *values), max(0.0, half, *values)
    room = 0.08 * (high - low) or 1.0
    low, high = low - room, high + room
    step = round_step(high - low)
    ticks = [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    heights = [_LINE * _lines(len(row[0])) for row in rows]
    height = sum(heights) + 28 * len(rows) + 26
    parts = []
    if margin is not None:
        parts.append(
            f'<rect class="margin" x="{place(-margin):.2f}%" y="0" '
            f'width="{place(margin) - place(-margin):.2f}%" height="{height - 20}"/>'
        )
    parts.append(_axis(0, height, ticks, place, "{:+g}"))
    zero = place(0)
    parts.append(
        f'<line class="zero" x1="{zero:.2f}%" x2="{zero:.2f}%" y1="0" y2="{height - 20}"/>'
    )
    for number, (label, estimate, start, end) in enumerate(rows):
        bottom = sum(heights[: number + 1]) + 28 * number + 4
        y = bottom + 11
        text = f"{label}: {estimate:+.1f} {unit}, 95 % interval {start:+.1f} to {end:+.1f}"
        parts.append(
            f"{_words(escape(label), 'row-label', bottom - heights[number], heights[number])}"
            f'<g><title>{escape(text)}</title><line class="whisker thick" '
            f'x1="{place(start):.2f}%" x2="{place(end):.2f}%" y1="{y}" y2="{y}"/>'
            f'<circle class="estimate" cx="{place(estimate):.2f}%" cy="{y}" r="5"/></g>'
        )
    return svg(parts, height, description)


def line_chart(series: Mapping[str, Sequence[tuple[float, float]]], *, description: str) -> str:
    """Curves, distinguished by color and dashes.

    Args:
        series: Name and (x, y) points of each curve, with at least one point, all finite.
        description: A description for readers who cannot see the picture.

    Returns:
        An `<svg>` of full width; class `curve-<i>` colors curve i.

    Raises:
        MetroFastError: If a curve has no points or one that is not finite.
    """
    if not series:
        raise MetroFastError("a chart of curves has no curve, expected at least one")
    for name, curve in series.items():
        if len(curve) == 0 or not np.isfinite(np.asarray(curve, dtype=np.float64)).all():
            raise MetroFastError(
                f"curve {quoted(name)} has no points, or one that is not finite: pass finite (x, "
                "y) pairs"
            )
    xs = [float(x) for curve in series.values() for x, _ in curve]
    ys = [float(y) for curve in series.values() for _, y in curve]
    (x0, x1), (y0, y1) = limits(xs), limits(ys)
    height, plot = 240, 214
    parts, labels = [], []
    step = round_step((y1 - y0) / 1.5)
    tick = math.ceil(y0 / step) * step
    while tick <= y1:
        y = plot * (1 - (tick - y0) / (y1 - y0))
        labels.append(f"{tick:.6g}")
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="0" dx="-8" y="{y + 4:.1f}" text-anchor="end">'
            f"{labels[-1]}</text>"
        )
        tick += step
    for value, anchor, x in ((min(xs), "start", 0), (max(xs), "end", 100)):
        parts.append(
            f'<text class="tick" x="{x}%" y="{height - 8}" text-anchor="{anchor}">'
            f"{value:,.6g}</text>"
        )
    parts.append(
        f'<svg x="0" y="0" width="100%" height="{plot}" viewBox="0 0 1000 1000" '
        'preserveAspectRatio="none">'
    )
    for number, (name, curve) in enumerate(series.items()):
        points = " ".join(
            f"{1000 * (x - x0) / (x1 - x0):.1f},{1000 * (1 - (y - y0) / (y1 - y0)):.1f}"
            for x, y in curve
        )
        parts.append(
            f'<polyline class="curve curve-{number % 6}" '
            f'stroke-dasharray="{DASHES[number % 6]}" points="{points}">'
            f"<title>{escape(name)}</title></polyline>"
        )
    parts.append("</svg>")
    return svg(parts, height, description, kind="curves", left=room(labels))


def _strip_row(row: StripRow, top: int, label_height: int) -> str:
    values = np.array([dot.value for dot in row.dots])
    low, q1, middle, q3, high = 100 * np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    mean, y = 100 * row.mean, top + label_height + 34
    numbers = f'<span class="quiet">mean {mean:.1f} %, worst {low:.1f} %</span>'
    parts = [
        _words(f"<p>{escape(row.label)} {numbers}</p>", "row-label", top, label_height),
        f'<line class="whisker" x1="{low:.2f}%" x2="{high:.2f}%" y1="{y}" y2="{y}"/>',
        f'<rect class="box" x="{q1:.2f}%" y="{y - 9}" width="{max(q3 - q1, 0.2):.2f}%" '
        'height="18" rx="2"/>',
        f'<line class="median" x1="{middle:.2f}%" x2="{middle:.2f}%" y1="{y - 9}" y2="{y + 9}"/>',
    ]
    for seen in (True, False):
        placed: list[tuple[float, int]] = []
        for dot in sorted((d for d in row.dots if d.seen is seen), key=lambda d: d.value):
            x = 100 * dot.value
            # Dots that would overlap are moved away from the middle, on up to three levels.
            level = next(
                (n for n in range(3) if all(abs(x - px) > 2.2 or n != pn for px, pn in placed)), 2
            )
            placed.append((x, level))
            cy = y - 15 - 7 * level if seen else y + 15 + 7 * level
            kind = "seen" if seen else "unseen"
            parts.append(
                f'<circle class="{kind}" cx="{x:.2f}%" cy="{cy}" r="5">'
                f"<title>{escape(dot.label)}</title></circle>"
            )
    # The origin of a nested svg can be a percentage; that of a path cannot.
    parts.append(
        f'<svg x="{mean:.2f}%" y="{y}" overflow="visible"><path class="mean" '
        f'd="M0 -6 L5 0 L0 6 L-5 0 Z"><title>mean {mean:.1f} %</title></path></svg>'
    )
    return "".join(parts)


def _axis(
    top: int, height: int, ticks: Sequence[float], place: Callable[[float], float], form: str
) -> str:
    """Grid lines with their numbers; the outermost numbers stay inside the picture."""
    parts = []
    for tick in ticks:
        x = place(tick)
        anchor = "start" if x < 1 else "end" if x > 99 else "middle"
        shown = form.format(tick) if tick else "0"
        parts.append(
            f'<line class="grid" x1="{x:.2f}%" x2="{x:.2f}%" y1="{top}" y2="{height - 20}"/>'
            f'<text class="tick" x="{x:.2f}%" y="{height - 5}" '
            f'text-anchor="{anchor}">{shown.replace("-", _MINUS)}</text>'
        )
    return "".join(parts)


def _beside(x: float, top: int, text: str) -> tuple[str, int]:
    """A text next to a vertical line, on the side that has room, and its lines."""
    start, width, kind = (x, 100 - x, "base-label") if x < 55 else (0.0, x, "base-label left")
    lines = _lines(len(text), width / 100)
    return _words(escape(text), kind, top, _LINE * lines, start, width), lines


def _lines(letters: int, share: float = 1.0) -> int:
    """The lines that a text needs on a phone, in a share of the picture's width."""
    return math.ceil(letters / (_LETTERS * share))


def _words(
    html: str, kind: str, top: int, height: int, start: float = 0.0, width: float = 100.0
) -> str:
    """Words in a box of the picture, in lines as wide as the box: a `<text>` has but one line.

    The words are at the bottom of the box, since they need fewer lines on a wide page.
    """
    return (
        f'<foreignObject x="{start:.2f}%" y="{top}" width="{width:.2f}%" height="{height}">'
        f'<div class="words {kind}">{html}</div></foreignObject>'
    )
