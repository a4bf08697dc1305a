"""The page around pictures of experts."""

from collections.abc import Sequence
from functools import cache
from importlib import resources

from metro_fast._page import Html, Section, document, figure


def page(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """A whole page; see `metro_fast._page.document` for the arguments."""
    return document(title, lead, sections, style=_style())


def picture(svg: str, caption: str, labels: Sequence[str] = ()) -> Html:
    """A picture with room for the labels on its left, and a caption.

    Args:
        svg: An `<svg>`.
        caption: The caption, as text.
        labels: The labels to the left of the picture.
    """
    room = min(12, max([len(label) for label in labels], default=0) * 0.5 + 1)
    # Slanted names of columns extend beyond the last one.
    right = 4 if 'class="heat"' in svg else 0
    style = f"--labels:{room:.1f}rem;padding:0 {right}rem 0 {room:.1f}rem"
    return figure(svg, caption, style=style)


@cache
def _style() -> str:
    folder = resources.files("metro_fast.experts.pictures")
    return folder.joinpath("pictures.css").read_text(encoding="utf-8")
