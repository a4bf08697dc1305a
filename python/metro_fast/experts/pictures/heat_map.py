"""Numbers by row and column as colors."""

import math
from collections.abc import Callable, Sequence
from html import escape

from metro_fast._svg import svg

Color = tuple[int, int, int]
_PALE: Color = (243, 246, 249)
BLUE: Color = (21, 80, 143)
ORANGE: Color = (181, 72, 15)
_MOST_NAMED = 40
_MOST_NUMBERED = 14
_LONGEST_NAME = 22
"""Letters of a name that is written out; the place for names holds no more."""


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    description: str,
    form: Callable[[float], str],
    reach: tuple[float, float] | None = None,
    color: Color = BLUE,
    short: Callable[[float], str] | None = None,
) -> str:
    """A cell a number, from pale to a full color; what lies on the other side of pale is orange.

    Every cell tells its row, column and number when pointed at; up to 14 columns the numbers stand
    in the cells, and up to 40 the columns' names above them.

    Args:
        rows: Names, written left of the picture: leave room there. Of long ones the end is shown.
        columns: Names.
        values: A row a row; None leaves a cell out.
        description: What a reader who cannot see the picture is told.
        form: How a number is told.
        reach: Numbers of the palest and the fullest color, which may be the smaller one; by default
            0 and the largest.
        color: The fullest one.
        short: How a number is written in its cell; as `form` by default.

    Example:
        >>> picture = heat_map(["a"], ["x", "y"], [[0.5, None]], description="", form=str)
        >>> picture.count("<rect"), "a, x: 0.5" in picture
        (1, True)
    """
    found = [v for row in values for v in row if v is not None and math.isfinite(v)]
    low, high = (0.0, max(found, default=1.0)) if reach is None else reach
    if high == low:
        high = low + 1
    cell = 22 if len(rows) <= 30 else max(3, min(18, 900 // len(rows)))
    named = columns if len(columns) <= _MOST_NAMED else []
    top = 12 + min(150, 5.2 * max((len(_shown(name)) for name in named), default=0))
    width = 100 / max(1, len(columns))
    parts = []
    for i, name in enumerate(named):
        parts.append(
            f'<svg x="{(i + 0.5) * width:.3f}%" y="{top - 5:g}" overflow="visible">'
            f'<text class="tick" transform="rotate(-50)">{escape(_shown(name))}</text></svg>'
        )
    for r, name in enumerate(rows):
        y = top + r * cell
        if cell >= 11:
            parts.append(
                f'<text class="tick" x="0" dx="-8" y="{y + cell / 2 + 4:g}" text-anchor="end">'
                f"{escape(_shown(name))}</text>"
            )
        for c, value in enumerate(values[r]):
            if value is None:
                continue
            share = (value - low) / (high - low) if math.isfinite(value) else 0.0
            told = f"{name}, {columns[c]}: {form(value)}"
            parts.append(
                f'<rect x="{c * width:.3f}%" y="{y:g}" width="{width:.3f}%" height="{cell}" '
                f'fill="{_mixed(share, color)}" stroke="#fff" stroke-width="{0.5 * (cell > 8):g}">'
                f"<title>{escape(told)}</title></rect>"
            )
            if len(columns) <= _MOST_NUMBERED and cell >= 16:
                light = " light" if abs(share) > 0.55 else ""
                parts.append(
                    f'<text class="cell{light}" x="{(c + 0.5) * width:.3f}%" '
                    f'y="{y + cell / 2 + 4:g}" pointer-events="none">'
                    f"{escape((short or form)(value))}</text>"
                )
    return svg(parts, top + cell * len(rows) + 4, description, "heat")


def _shown(name: str) -> str:
    """The end of a long name, where names of one kind differ."""
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]


def _mixed(share: float, color: Color) -> str:
    """From pale (0) to the color (1), or to orange (-1)."""
    full = color if share >= 0 else ORANGE
    amount = min(1.0, abs(share))
    mixed = (round(p + amount * (f - p)) for p, f in zip(_PALE, full, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)
