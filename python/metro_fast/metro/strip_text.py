"""A row of a strip as text: four lines in columns, with marks, and with colors on a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

LABELS = ("original", "masked", "sampled", "detector")


@dataclass(frozen=True)
class StripToken:
    """One token of a row.

    Attributes:
        original: The token of the text.
        masked: What the auxiliary model read in its place, if it was masked.
        read: What the main encoder read.
        replaced: Whether that is another token than the original.
        probability: What the detector gives to "replaced"; None without a detector, NaN where it
            has no opinion.
    """

    original: str
    masked: str | None
    read: str
    replaced: bool
    probability: float | None

    @property
    def known(self) -> float | None:
        """The probability, or None where the detector has none."""
        p = self.probability
        return p if p is not None and p == p else None  # NaN is not equal to itself

    @property
    def wrong(self) -> bool:
        """Whether the detector is wrong, at a threshold of one half."""
        return self.known is not None and (self.known >= 0.5) != self.replaced


@dataclass(frozen=True)
class StripRow:
    """A row of tokens and its id in the corpus."""

    sample_id: int
    tokens: tuple[StripToken, ...]


def visible(text: str) -> str:
    r"""Write characters that move the cursor, or cannot be seen, as escapes.

    Example:
        >>> visible("a"), visible("a b"), visible(chr(27) + "[2J")
        ('a', 'a b', '\\x1b[2J')
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cells(token: StripToken) -> tuple[str, str, str, str]:
    """The four cells of a token: original, masked, sampled, detector.

    A replaced token is in brackets, a draw that gives the original in parentheses, and a wrong
    probability has an exclamation mark.

    Example:
        >>> cells(StripToken("king", "<mask>", "lord", True, 0.07))
        ('king', '<mask>', '[lord]', '7!')
    """
    sampled = ""
    if token.masked is not None:
        sampled = f"[{visible(token.read)}]" if token.replaced else f"({visible(token.read)})"
    p = token.known
    percent = "" if p is None else f"{100 * p:.0f}{'!' if token.wrong else ''}"
    original = visible(token.original)
    masked = original if token.masked is None else visible(token.masked)
    return original, masked, sampled, percent


def shade(probability: float) -> str:
    """The background of a probability: white at 0, orange at 1.

    Example:
        >>> shade(0.0), shade(1.0)
        ('#ffffff', '#f0a050')
    """
    parts = (round(255 + probability * (full - 255)) for full in (0xF0, 0xA0, 0x50))
    return "#" + "".join(f"{part:02x}" for part in parts)


def strip_text(row: StripRow, step: int, width: int) -> Text:
    """The four lines of a row, broken at the width as often as needed.

    Args:
        row: The row.
        step: The step of the run.
        width: Columns of the terminal or file.
    """
    text = Text(f"row {row.sample_id} at step {step}; detector: % replaced, ! wrong\n", "bold")
    for block in _blocks(row.tokens, width - len("original  ")):
        for line, label in enumerate(LABELS):
            text.append(f"{label:10}", "dim")
            for token in block:
                cell = cells(token)[line]
                text.append(cell, _style(token, line))
                text.append(" " * (_width(token) - cell_len(cell) + 1))
            text.append("\n")
        text.append("\n")
    return text


def _width(token: StripToken) -> int:
    return max(map(cell_len, cells(token)))


def _blocks(tokens: Sequence[StripToken], width: int) -> list[list[StripToken]]:
    blocks: list[list[StripToken]] = [[]]
    used = 0
    for token in tokens:
        size = _width(token) + 1
        if blocks[-1] and used + size > width:
            blocks.append([])
            used = 0
        blocks[-1].append(token)
        used += size
    return blocks


def _style(token: StripToken, line: int) -> Style:
    if line == 2 and token.masked is not None:
        return Style(bold=True, color="#d55e00" if token.replaced else "#0072b2")
    if line == 3 and token.known is not None:
        return Style(color="#1c2024", bgcolor=shade(token.known), bold=token.wrong)
    return Style()
