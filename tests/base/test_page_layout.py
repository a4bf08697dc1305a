"""Every page that we write, in a browser: nothing is clipped on a phone, a tablet or a desk."""

from pathlib import Path

import pytest

from browser import layout
from page_cases import PAGES

WIDTHS = (400, 800, 1300)
WITH_DARK_COLORS = {"report"}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.filterwarnings("ignore:.*is erased")
def test_nothing_is_clipped_or_wider_than_the_window(name: str, tmp_path: Path) -> None:
    page = PAGES[name](tmp_path).replace("<details>", "<details open>")
    page = page.replace('<details class="', '<details open class="')
    for dark in (False, True):
        found = layout(page, WIDTHS, tmp_path, dark=dark)
        assert {width: at["faults"] for width, at in found.items()} == {w: [] for w in WIDTHS}
        # Pages with one set of colors do not mix it with that of a dark desktop.
        paper = "rgb(20, 24, 28)" if dark and name in WITH_DARK_COLORS else "rgb(255, 255, 255)"
        assert {at["paper"] for at in found.values()} == {paper}
