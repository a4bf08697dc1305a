"""Numbers of the page as CSV, in links that a page without scripts can have."""

import csv
import io
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from metro_fast._page import Html
from metro_fast._spreadsheet import safe_cell

__all__ = ["csv_link"]


def csv_link(name: str, head: Sequence[str], rows: Sequence[Sequence[str | float]]) -> Html:
    """A link that saves a table as a file.

    Args:
        name: Name of the file, without its ending.
        head: Names of the columns.
        rows: The rows; numbers keep all of their digits.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows(
        [[safe_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    )
    data = quote(text.getvalue(), safe=" ,.:;/()!*+=@$")
    address = f"data:text/csv;charset=utf-8,{escape(data)}"
    return Html(f'<a download="{escape(name)}.csv" href="{address}">CSV</a>')
