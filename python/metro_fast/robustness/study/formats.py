"""Tables as CSV, Markdown and JSON."""

import csv
import io
import json
import math
import re
from collections.abc import Sequence

from metro_fast._shown import printable
from metro_fast._spreadsheet import safe_cell
from metro_fast.robustness.study.table import Table, Value

__all__ = ["cell_text", "number", "tables_csv", "tables_json", "tables_markdown"]


def tables_json(tables: Sequence[Table]) -> str:
    """The tables as one JSON object: its `tables` are `Table.to_record`, by name."""
    record = {"format": "metro_fast.tables/1", "tables": [each.to_record() for each in tables]}
    return json.dumps(record, indent=2, allow_nan=False) + "\n"


def tables_csv(table: Table) -> str:
    """One table as CSV with a header; what is None is an empty cell.

    A text that a spreadsheet would run as a formula gets an apostrophe in front, and control
    characters are escaped. Numbers have all of their digits.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow([_csv_cell(row[name]) for name in table.columns])
    return file.getvalue()


def tables_markdown(tables: Sequence[Table]) -> str:
    """The main columns of tables as GitHub's Markdown, each with its question and its notes.

    Texts are escaped so that they stay texts: a name makes neither a link nor HTML nor a column.
    """
    parts = []
    for table in tables:
        lines = [f"## {_escaped(table.question)}", ""]
        if table.rows:
            lines += [f"| {' | '.join(table.main)} |", "|---" * len(table.main) + "|"]
            lines += [
                f"| {' | '.join(_escaped(cell_text(row[name])) for name in table.main)} |"
                for row in table.rows
            ]
        else:
            lines.append("Not a single row.")
        for note in table.notes:
            lines += ["", f"- {_escaped(note)}"]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _csv_cell(value: Value) -> Value:
    return safe_cell(printable(value)) if isinstance(value, str) else value


def cell_text(value: Value) -> str:
    """A value as people read it: a number with three digits, nothing for None.

    Example:
        >>> cell_text(None), cell_text(True), cell_text(0.85), cell_text(12345)
        ('', 'yes', '0.850', '12,345')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    return f"{value:,}" if isinstance(value, int) else value


def number(value: float) -> str:
    """A number with three digits after the point, or three that count if it is small.

    Example:
        >>> number(0.8512345), number(2e-9), number(0.0)
        ('0.851', '2.00e-09', '0.000')
    """
    if value == 0 or not math.isfinite(value) or abs(value) >= 0.001:
        return f"{value:.3f}"
    return f"{value:.2e}"


def _escaped(text: str) -> str:
    line = printable(" ".join(text.split()))
    return re.sub(r"([\\`*_{}\[\]<>()#|~!&$])", r"\\\1", line)
