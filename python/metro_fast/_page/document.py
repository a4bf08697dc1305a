"""The HTML document around the sections of a page."""

from collections.abc import Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import NamedTuple

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
"""The rights of a page in a browser: to use its own styles, and to load and run nothing. Names and
texts from strangers' files are escaped; one that slips through all the same has no effect."""


class Section(NamedTuple):
    """A part of a page under one heading.

    Attributes:
        heading: The heading, as text.
        body: What follows it, as HTML.
    """

    heading: str
    body: str


def document(
    title: str,
    lead: Sequence[str],
    sections: Sequence[Section],
    *,
    extra: str = "",
    style: str = "",
    dark: bool = False,
) -> str:
    """A whole page.

    Args:
        title: The heading of the page, as text.
        lead: Sentences under the heading, as text.
        sections: The sections, in order.
        extra: HTML below the sentences.
        style: CSS rules in addition to the shared ones.
        dark: Whether the rules have colors for a dark desktop too.

    Returns:
        HTML.

    Example:
        >>> html = document("a < b", ["One sentence."], [Section("Sizes", "<p>12</p>")])
        >>> "<h1>a &lt; b</h1>" in html, "://" in html
        (True, False)
    """
    sentences = "".join(f'<p class="lead">{escape(sentence)}</p>\n' for sentence in lead)
    body = "\n".join(
        f"<section>\n<h2>{escape(heading)}</h2>\n{html}\n</section>" for heading, html in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light{" dark" if dark else ""}">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>\n{_shared_style()}{style}</style>\n</head>\n<body>\n<header>\n"
        f"<h1>{escape(title)}</h1>\n{sentences}{extra}</header>\n<main>\n{body}\n</main>\n</body>\n"
        "</html>\n"
    )


@cache
def _shared_style() -> str:
    return resources.files("metro_fast._page").joinpath("page.css").read_text(encoding="utf-8")
