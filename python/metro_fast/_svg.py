"""The parts that SVG pictures share: limits, ticks, and the element around them."""

import math
from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["limits", "room", "round_step", "svg"]


def limits(values: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest value, moved apart if they are equal.

    Example:
        >>> limits([3, 1]), limits([2])
        ((1, 3), (1.5, 2.5))
    """
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def round_step(reach: float) -> float:
    """Find the 1, 2 or 5 times a power of ten that divides a range into two to five steps.

    Example:
        >>> round_step(1.7)
        0.5
    """
    power: float = 10.0 ** math.floor(math.log10(reach))
    return next(power * f for f in (0.2, 0.5, 1, 2) if reach / (power * f) <= 5)


def room(labels: Iterable[str]) -> float:
    """The room in rem that labels of 12 pixels need beside a picture.

    Example:
        >>> room([]), room(["0.5", "1"])
        (0.0, 2.0)
    """
    longest = max(map(len, labels), default=0)
    return round(0.44 * longest + 0.7, 1) if longest else 0.0


def svg(
    parts: Sequence[str],
    height: float,
    description: str,
    kind: str = "chart",
    *,
    left: float = 0.0,
    right: float = 0.0,
    least: float = 0.0,
) -> str:
    """Put parts into an `<svg>` element of full width.

    Args:
        parts: The content as SVG text, in which words are already escaped.
        height: Height in pixels.
        description: A description of the picture for readers who cannot see it.
        kind: CSS class of the element.
        left: Room to the left of the picture, in rem (`room` of the labels there).
        right: Room to its right.
        least: Least width of the picture between them, in rem: it then scrolls in its box.

    Example:
        >>> svg(["<g/>"], 20, "a < b")
        '<svg class="chart" role="img" width="100%" height="20" aria-label="a &lt; b"><g/></svg>'
    """
    style = f"padding:0 {right:.1f}rem 0 {left:.1f}rem" if left or right else ""
    style += f";min-width:{left + least + right:.1f}rem" if least else ""
    style = f' style="{style}"' if style else ""
    return (
        f'<svg class="{kind}" role="img" width="100%" height="{height:g}"{style} '
        f'aria-label="{escape(description)}">{"".join(parts)}</svg>'
    )
