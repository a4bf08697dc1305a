"""Heat maps: numbers by row and column, as colors."""

import math
from collections.abc import Callable, Sequence
from html import escape

from metro_fast._svg import room, svg

Color = tuple[int, int, int]
_PALE: Color = (243, 246, 249)
BLUE: Color = (21, 80, 143)
ORANGE: Color = (181, 72, 15)
_MOST_NAMED = 40
_MOST_NUMBERED = 14
_LONGEST_NAME = 22
"""Most letters of a name that are shown: as many as fit next to the map."""


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
    """One cell per number, from pale to a full color; numbers beyond the palest are orange.

    Pointing at a cell shows its row, column and number. With up to 14 columns the numbers are also
    written in the cells, and with up to 40 the names of the columns above them.

    Args:
        rows: Names of the rows, written left of the cells. Only the end of a long name is shown.
        columns: Names of the columns.
        values: The numbers of each row; None leaves a cell out.
        description: A description for readers who cannot see the picture.
        form: Formats a number for the text that pointing at a cell shows.
        reach: The numbers with the palest and with the fullest color; the first may be the larger
            one. By default 0 and the largest number.
        color: The fullest color.
        short: Formats a number for its cell; `form` by default.

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
    top = 12 + min(150, 6 * max((len(_shown(name)) for name in named), default=0))
    width = 100 / max(1, len(columns))
    parts = [
        f'<svg x="{(i + 0.5) * width:.3f}%" y="{top - 5:g}" overflow="visible">'
        f'<text class="tick" transform="rotate(-50)">{escape(_shown(name))}</text></svg>'
        for i, name in enumerate(named)
    ]
    numbered = len(columns) <= _MOST_NUMBERED and cell >= 16
    longest = 1
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
            label = f"{name}, {columns[c]}: {form(value)}"
            number = (short or form)(value) if numbered else ""
            longest = max(longest, len(number))
            parts.append(_cell(c * width, y, width, cell, share, color, label, number))
    least = len(columns) * (0.42 * longest + 0.5 if numbered else 0.9 if named else 0.2)
    return svg(
        parts,
        top + cell * len(rows) + 4,
        description,
        "heat",
        left=room(map(_shown, rows)) if cell >= 11 else 0.0,
        right=0.7 * room(map(_shown, named)),  # slanted names extend beyond the last column
        least=least,
    )


def _cell(
    x: float,
    y: float,
    width: float,
    height: float,
    share: float,
    color: Color,
    label: str,
    number: str,
) -> str:
    """A colored cell, with its number if there is room for it."""
    rectangle = (
        f'<rect x="{x:.3f}%" y="{y:g}" width="{width:.3f}%" height="{height}" '
        f'fill="{_mixed(share, color)}" stroke="#fff" stroke-width="{0.5 * (height > 8):g}">'
        f"<title>{escape(label)}</title></rect>"
    )
    if not number:
        return rectangle
    light = " light" if abs(share) > 0.55 else ""
    return rectangle + (
        f'<text class="cell{light}" x="{x + 0.5 * width:.3f}%" y="{y + height / 2 + 4:g}" '
        f'pointer-events="none">{escape(number)}</text>'
    )


def _shown(name: str) -> str:
    """A name, or only the end of a long one, because similar names differ there."""
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]


def _mixed(share: float, color: Color) -> str:
    """A mixture of pale (0) and the color (1), or of pale and orange (-1)."""
    full = color if share >= 0 else ORANGE
    amount = min(1.0, abs(share))
    mixed = (round(p + amount * (f - p)) for p, f in zip(_PALE, full, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)
