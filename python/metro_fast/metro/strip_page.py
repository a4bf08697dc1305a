"""The page of the strips of a run: every token a small column, shaded by the detector."""

from collections.abc import Sequence
from html import escape

from metro_fast._page import Section, document
from metro_fast.metro.strip_text import StripRow, StripToken, shade, visible

STYLE = """
.strip { display: flex; flex-wrap: wrap; gap: .5rem .3rem; margin: .4rem 0 1.6rem; font-size: .86rem; }
.token { display: grid; grid-template-rows: repeat(4, auto); justify-items: start; padding: .15rem .35rem; border-radius: .25rem; border: 1px solid var(--rule); white-space: pre-wrap; overflow-wrap: anywhere; max-width: 100%; }
.token > span { min-height: 1.45em; }
.token .masked { color: var(--quiet); }
.token .drawn { color: #0059a0; font-weight: 600; }
.token .replaced { color: #8f3300; font-weight: 700; }
.token .chance { font-size: .78rem; }
.token.wrong { border: 2px solid #1c2024; }
.names { color: var(--quiet); border-color: transparent; background: none; }
h3 { margin-top: 1.2rem; }
"""  # noqa: E501


def strip_page(strips: Sequence[tuple[int, Sequence[StripRow]]]) -> str:
    """The rows at several steps, on one page that loads nothing.

    Args:
        strips: Step and rows, in the order of the page.

    Returns:
        HTML.
    """
    lead = [
        "Each column is a token: the original, what the auxiliary model read, the token that was "
        "drawn for a mask, and the probability in percent that the detector gives to “replaced”, "
        "which also shades the column.",
        "Draws in [brackets] differ from the original, and draws in (parentheses) do not. A thick "
        "frame is a wrong detection, at a threshold of 50 %.",
    ]
    sections = [
        Section(
            f"Rows after {step:,} step{'s' if step != 1 else ''}",
            "".join(
                f"<h3>Row {row.sample_id:,}{_summary(row)}</h3>\n"
                f'<div class="strip">{_names()}{"".join(map(_token, row.tokens))}</div>\n'
                for row in rows
            ),
        )
        for step, rows in strips
    ]
    return document("Sentence strip", lead, sections, style=STYLE)


def _names() -> str:
    names = ("original", "masked", "sampled", "detector")
    return f'<div class="token names">{"".join(f"<span>{name}</span>" for name in names)}</div>'


def _summary(row: StripRow) -> str:
    replaced = sum(token.replaced for token in row.tokens)
    drawn = sum(token.masked is not None for token in row.tokens)
    text = f": {len(row.tokens)} tokens, {drawn} masked, {replaced} replaced"
    judged = [token for token in row.tokens if token.known is not None]
    if judged:
        found = sum(token.replaced and not token.wrong for token in judged)
        false = sum(token.wrong and not token.replaced for token in judged)
        text += f", {found} of them found, {false} false alarm{'s' if false != 1 else ''}"
    return text


def _token(token: StripToken) -> str:
    p = token.known
    style = "" if p is None else f' style="background:{shade(p)}"'
    sampled, kind = "", ""
    if token.masked is not None:
        kind = "replaced" if token.replaced else "drawn"
        read = escape(visible(token.read))
        sampled = f"[{read}]" if token.replaced else f"({read})"
    masked = "·" if token.masked is None else escape(visible(token.masked))
    parts = (
        f"<span>{escape(visible(token.original))}</span>",
        f'<span class="masked">{masked}</span>',
        f'<span class="{kind}">{sampled}</span>',
        f'<span class="chance">{"" if p is None else f"{100 * p:.0f}"}</span>',
    )
    wrong = " wrong" if token.wrong else ""
    return f'<div class="token{wrong}"{style}>{"".join(parts)}</div>'
