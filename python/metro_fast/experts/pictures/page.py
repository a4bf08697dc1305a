"""The page around pictures of experts."""

from collections.abc import Sequence
from functools import cache
from importlib import resources

from metro_fast._page import Html, Section, document, figure, scrolling


def page(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """A whole page; see `metro_fast._page.document` for the arguments."""
    return document(title, lead, sections, style=_style())


def map_figure(heat: str, caption: str, *, label: str) -> Html:
    """A heat map and its caption; the map scrolls sideways where its cells would be too narrow.

    Args:
        heat: What `heat_map` drew.
        caption: The caption, as text.
        label: A description of the map for screen readers.
    """
    return figure(scrolling(heat, label), caption)


@cache
def _style() -> str:
    folder = resources.files("metro_fast.experts.pictures")
    return folder.joinpath("pictures.css").read_text(encoding="utf-8")
