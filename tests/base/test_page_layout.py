"""Every page that we write, in a browser: nothing is clipped on a phone, a tablet or a desk."""

from collections.abc import Callable
from pathlib import Path

import pytest

from browser import layout
from page_cases import PAGES

WIDTHS = (400, 800, 1300)


@pytest.mark.parametrize("write", PAGES.values(), ids=PAGES)
@pytest.mark.filterwarnings("ignore:.*is erased")
def test_nothing_is_clipped_or_wider_than_the_window(
    write: Callable[[Path], str], tmp_path: Path
) -> None:
    page = write(tmp_path)
    for dark in (False, True):
        found = layout(page, WIDTHS, tmp_path, dark=dark)
        assert {width: at["faults"] for width, at in found.items()} == {w: [] for w in WIDTHS}
        # The pages have one set of colors, which a dark desktop does not mix with its own.
        assert {at["paper"] for at in found.values()} == {"rgb(255, 255, 255)"}
