"""Histograms with the names of both axes."""

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from metro_fast._svg import room, svg

_BINS, _HEIGHT, _TOP, _BOTTOM = 20, 150, 18, 38


def histogram(
    values: Sequence[float],
    weights: Sequence[float],
    *,
    reach: tuple[float, float],
    unit: str,
    form: Callable[[float], str],
    things: str,
    axis: str,
) -> str:
    """Draw how often values occur, in twenty bars of equal width.

    Pointing at a bar shows its limits and how much is in it.

    Args:
        values: The values.
        weights: What each counts.
        reach: The lower limit of the first bar and the upper one of the last.
        unit: What the weights are, such as `parameters`: the name of the vertical axis.
        form: Formats a value.
        things: What the values belong to, such as `tensors`.
        axis: What the values are: the name of the horizontal axis.

    Example:
        >>> picture = histogram(
        ...     [0.5],
        ...     [3],
        ...     reach=(0, 1),
        ...     unit="entries",
        ...     form=str,
        ...     things="tensors",
        ...     axis="share",
        ... )
        >>> "0.5 to 0.55: 1 tensors, 3 entries" in picture
        True
    """
    counts, edges = np.histogram(values, _BINS, reach, weights=weights)
    number, _ = np.histogram(values, _BINS, reach)
    highest = float(counts.max(initial=0))
    width, parts = 100 / _BINS, []
    floor = _HEIGHT - _BOTTOM
    top = f"{highest:,.0f}"
    for level, name in ((floor, "0"), (_TOP, top)):
        parts.append(
            f'<line class="grid" x1="0" x2="100%" y1="{level}" y2="{level}"/>'
            f'<text class="tick" x="0" dx="-8" y="{level + 4}" text-anchor="end">{name}</text>'
        )
    for i, count in enumerate(counts):
        tall = 0 if count == 0 else max(1.5, (floor - _TOP) * count / highest)
        limits = f"{form(round(float(edges[i]), 6))} to {form(round(float(edges[i + 1]), 6))}"
        label = f"{limits}: {int(number[i])} {things}, {int(count):,} {unit}"
        parts.append(
            f'<rect class="bar" x="{i * width + 0.1:.2f}%" y="{floor - tall:.1f}" '
            f'width="{width - 0.2:.2f}%" height="{tall:.1f}"><title>{escape(label)}</title></rect>'
        )
    low, high = reach
    for at, anchor, value in (
        (0, "start", low),
        (50, "middle", (low + high) / 2),
        (100, "end", high),
    ):
        parts.append(
            f'<text class="tick" x="{at}%" y="{floor + 16}" text-anchor="{anchor}">'
            f"{escape(form(value))}</text>"
        )
    for x, y, anchor, name in (("0", 10, "start", unit), ("50%", _HEIGHT - 4, "middle", axis)):
        parts.append(
            f'<text class="tick" x="{x}" y="{y}" text-anchor="{anchor}">{escape(name)}</text>'
        )
    return svg(parts, _HEIGHT, f"{unit} by {axis}", left=room([top, "0"]))
