"""Pictures of the page: drawn by matplotlib, inline as SVG with a label at each mark.

A page runs no scripts, so the downloads are links to data: the same drawing as PNG, its numbers as
CSV. The numbers are also a table below the picture.
"""

import base64
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple
from xml.etree import ElementTree

from metro_fast._extras import require
from metro_fast._page import Html, scrolling, table
from metro_fast.robustness.page.csv_text import csv_link

__all__ = [
    "BLUE",
    "COLORS",
    "GREEN",
    "INK",
    "ORANGE",
    "QUIET",
    "RED",
    "RULE",
    "Picture",
    "download_links",
    "picture_html",
]

INK, QUIET, RULE = "#1c2024", "#5b636b", "#dfe3e7"
BLUE, ORANGE, GREEN, RED = "#15508f", "#b5480f", "#17693a", "#a32020"
COLORS = (BLUE, ORANGE, GREEN, "#7a3a86", "#80640a", "#3c4650")
_PROPERTIES = {
    INK: "ink", QUIET: "quiet", RULE: "rule", BLUE: "blue", ORANGE: "orange", GREEN: "green",
    RED: "red", COLORS[3]: "purple", COLORS[4]: "olive", COLORS[5]: "slate", "#ffffff": "paper",
}  # fmt: skip
"""The page's names of the colors, which are others on a dark desktop."""
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    # Names of models and tasks are not formulas.
    "text.parse_math": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": INK,
    "grid.color": RULE,
    "hatch.color": "#ffffff",
    "hatch.linewidth": 1.2,
    "svg.fonttype": "none",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"


class Picture(NamedTuple):
    """A picture and its numbers.

    Attributes:
        key: Its name in the page and of its files; no two pictures have the same.
        description: What it shows, for readers who cannot see it.
        caption: A sentence below it.
        head: Names of the columns of its numbers.
        rows: Its numbers.
        size: Width and height in inches of 72 points.
        draw: Draws it into a figure of matplotlib, and returns the label of each mark by its `gid`.
    """

    key: str
    description: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    size: tuple[float, float]
    draw: Callable[[Any], Mapping[str, str]]


def picture_html(picture: Picture) -> Html:
    """The picture with its caption, its downloads and its numbers.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    svg, png = _drawn(picture)
    links = _links(picture, png)
    rows = [[_cell(cell) for cell in row] for row in picture.rows]
    numbers = table(picture.head, rows, label=f"Numbers of: {picture.description}", kind="numbers")
    return Html(
        f"<figure>\n{scrolling(svg, picture.description)}"
        f'<figcaption>{escape(picture.caption)} <span class="downloads">{links}</span>'
        f"</figcaption>\n<details><summary>Numbers of this picture</summary>\n{numbers}</details>\n"
        "</figure>\n"
    )


def download_links(picture: Picture) -> Html:
    """The downloads of a picture that the page itself shows in another form.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    return _links(picture, _drawn(picture, inline=False)[1])


def _links(picture: Picture, png: bytes) -> Html:
    image = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return Html(
        f'<a download="{escape(picture.key)}.png" href="{image}">PNG</a> '
        f"{csv_link(picture.key, picture.head, picture.rows)}"
    )


def _cell(cell: str | float) -> str:
    return cell if isinstance(cell, str) else f"{cell:.4g}".replace("-", "\N{MINUS SIGN}")


def _drawn(picture: Picture, *, inline: bool = True) -> tuple[str, bytes]:
    """The SVG element, empty unless it is wanted, and the PNG of a picture."""
    matplotlib = require("matplotlib", "eval")
    figures = require("matplotlib.figure", "eval")
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": picture.key}), warnings.catch_warnings():
        # The page's fonts have what matplotlib's own lacks, such as Chinese.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawing = figures.Figure(figsize=picture.size, layout="constrained")
        labels = picture.draw(drawing)
        vector, image = io.BytesIO(), io.BytesIO()
        if inline:
            drawing.savefig(vector, format="svg", facecolor="none", metadata={"Date": None})
            # The second drawing keeps the layout of the first.
            drawing.set_layout_engine("none")
        drawing.savefig(image, format="png", facecolor="white", dpi=110)
    return _inline(vector.getvalue(), labels, picture) if inline else "", _small(image)


def _small(image: io.BytesIO) -> bytes:
    """The PNG with 64 colors, which is a third as large; matplotlib brings Pillow."""
    pillow, small = require("PIL.Image", "eval"), io.BytesIO()
    pillow.open(image).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return small.getvalue()


def _inline(content: bytes, labels: Mapping[str, str], picture: Picture) -> str:
    """An SVG for the inside of a page: with labels, the page's colors and fonts, and no styles."""
    # XML has no control characters; names may have them.
    root = ElementTree.fromstring(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", content.decode()))
    used = {e.get(_LINK, "").removeprefix("#") for e in root.iter()}
    used |= set(re.findall(r"url\(#([^)]+)\)", content.decode()))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(_SVG) in ("style", "clipPath") or "metadata" in child.tag:
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib.pop("clip-path", None)
        if _LINK in element.attrib:
            element.set("href", element.attrib.pop(_LINK))
        own = element.get("id", "")
        if own in labels:
            title = ElementTree.Element("title")
            title.text = labels[own]
            element.insert(0, title)
        if own and own not in used:
            del element.attrib["id"]
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib.update({"class": "plot", "role": "img", "aria-label": picture.description})
    # An inch is 6 rem; on a narrow page the picture scrolls in its box.
    root.set("style", f"max-width:{6 * picture.size[0]:.0f}rem")
    text = ElementTree.tostring(root, encoding="unicode")
    text = re.sub(r"font: (?:\d+ )?([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    for color, name in _PROPERTIES.items():
        text = text.replace(f": {color}", f": var(--{name})")
    return re.sub(r">\s+<", "><", text)
