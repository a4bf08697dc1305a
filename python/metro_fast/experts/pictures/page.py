"""A page around pictures of experts: one file that loads nothing."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple


class Section(NamedTuple):
    """A heading, its pictures and what is to be read under them, each as HTML."""

    heading: str
    body: str


def page(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """The whole page.

    Args:
        title: Its heading, as text.
        lead: Sentences under it, as text.
        sections: In order.

    Example:
        >>> html = page("a < b", ["One sentence."], [Section("Sizes", "<p>12</p>")])
        >>> "<h1>a &lt; b</h1>" in html, "http" in html
        (True, False)
    """
    sentences = "".join(f'<p class="lead">{escape(sentence)}</p>' for sentence in lead)
    body = "".join(f"<section><h2>{escape(h)}</h2>{b}</section>" for h, b in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<header><h1>{escape(title)}</h1>"
        f"{sentences}</header>\n<main>{body}</main>\n</body>\n</html>\n"
    )


def figure(picture: str, caption: str, labels: Sequence[str] = ()) -> str:
    """A picture with room on its left for labels, and a caption.

    Args:
        picture: An `<svg>`.
        caption: As text.
        labels: What stands left of the picture.
    """
    room = min(12, max([len(label) for label in labels], default=0) * 0.5 + 1)
    # Slanted names of columns reach beyond the last one.
    right = 4 if 'class="heat"' in picture else 0
    return (
        f'<figure style="padding:0 {right}rem 0 {room:.1f}rem">{picture}'
        f'<figcaption style="margin-left:-{room:.1f}rem">{escape(caption)}</figcaption></figure>'
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column holds the rows' names. Everything is text."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'
        "</div>"
    )


_STYLE = """
:root { --ink: #1c2024; --quiet: #5b636b; --rule: #dfe3e7; --paper: #fff; --wash: #f5f7f9;
  --blue: #15508f; --orange: #b5480f; --green: #17693a; }
* { box-sizing: border-box; }
html { background: var(--wash); }
body { margin: 0 auto; padding: 2.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 70rem;
  background: var(--paper); color: var(--ink); overflow-wrap: break-word;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
h1, h2 { line-height: 1.25; }
h1 { font-size: clamp(1.5rem, 5vw, 2.1rem); margin: 0 0 1rem; }
h2 { font-size: 1.35rem; margin: 0 0 1rem; }
section { border-top: 2px solid var(--ink); margin-top: 2.5rem; padding-top: 1.2rem; }
p { margin: .5rem 0; max-width: 46rem; }
.lead { font-size: 1.05rem; }
figure { margin: 0 0 1.6rem; }
figure svg { display: block; overflow: visible; }
figcaption, .quiet { color: var(--quiet); font-size: .86rem; margin-top: .6rem; max-width: 46rem; }
svg text { font: 12.5px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif;
  fill: var(--ink); }
svg text.tick { fill: var(--quiet); font-size: 12px; }
svg text.cell { font-size: 11px; text-anchor: middle; }
svg .light { fill: #fff; }
svg .grid { stroke: var(--rule); }
svg .line { stroke-width: 1.5; fill: none; }
svg .level { stroke: var(--quiet); }
svg .front { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 5 3; }
svg .best { fill: none; stroke: var(--ink); stroke-width: 2; }
svg .original { fill: var(--ink); }
svg .bar { fill: var(--blue); }
.c0 { stroke: #15508f; fill: #15508f; } .c1 { stroke: #b5480f; fill: #b5480f; }
.c2 { stroke: #17693a; fill: #17693a; } .c3 { stroke: #7a3a86; fill: #7a3a86; }
.c4 { stroke: #80640a; fill: #80640a; } .c5 { stroke: #3c4650; fill: #3c4650; }
.key { display: inline-block; width: .75em; height: .75em; border-radius: 2px; margin: 0 .35em; }
.k0 { background: #15508f; } .k1 { background: #b5480f; } .k2 { background: #17693a; }
.k3 { background: #7a3a86; } .k4 { background: #80640a; } .k5 { background: #3c4650; }
.legend { font-size: .88rem; margin: .6rem 0; max-width: none; }
.legend span { white-space: nowrap; margin-right: .9em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: right; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--rule); }
th:first-child { text-align: left; font-weight: 600; }
thead th { color: var(--quiet); font-size: .82rem; border-bottom-color: var(--ink); }
@media print { html, body { background: #fff; } figure, tr { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
