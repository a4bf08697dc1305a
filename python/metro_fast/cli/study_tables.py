"""Tables of studies on a terminal and in files, in the formats of `--format`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from metro_fast._atomic import write_atomically
from metro_fast.cli.console import plain_console
from metro_fast.errors import MetroFastError
from metro_fast.robustness import Table, tables_csv, tables_json, tables_markdown
from metro_fast.robustness.study.formats import cell_text
from metro_fast.robustness.study.table import Value

__all__ = ["show_tables", "write_tables"]

_ABOUT = (
    *("model", "reference", "family", "kind", "reading", "task", "task_type", "wording"),
    *("control", "first", "second"),
)
"""Columns that say what a row is about."""
_WIDE = 100_000
"""Wider than any terminal: a table is measured as if it had all the room."""


def write_tables(tables: Sequence[Table], kind: str, output: Path | None) -> None:
    """Print tables, or write them to a file.

    Args:
        tables: The tables; CSV of several goes into a folder, a file for each.
        kind: `text`, `json`, `csv` or `md`.
        output: The file or folder; None prints them.

    Raises:
        MetroFastError: If several tables would become one CSV.
        OSError: If a file cannot be written.
    """
    if kind == "csv" and len(tables) > 1:
        if output is None:
            raise MetroFastError(
                "--format csv prints one table: choose it with --table, or give --output a folder "
                "for a file of each"
            )
        if output.exists() and not output.is_dir():
            raise MetroFastError(
                f"--output is {output}, a file, but --format csv writes {len(tables)} tables: give "
                "a folder"
            )
        for table in tables:
            typer.echo(f"wrote {write_atomically(output / f'{table.name}.csv', tables_csv(table))}")
        return
    if kind == "text":
        if output is not None:
            raise MetroFastError("--output needs --format json, csv or md: choose one")
        show_tables(tables)
        return
    text = (
        tables_csv(tables[0])
        if kind == "csv"
        else tables_json(tables)
        if kind == "json"
        else tables_markdown(tables)
    )
    if output is None:
        typer.echo(text, nl=False)
    else:
        typer.echo(f"wrote {write_atomically(output, text)}")


def show_tables(tables: Sequence[Table]) -> None:
    """Print the main columns of tables, each with its question above and its notes below.

    What does not fit the terminal beside one another is printed row by row. A column that is empty,
    and the reading where there is only one, is left out.
    """
    console = plain_console()
    for table in tables:
        heads = _heads(table)
        lines = [[_cell(table, row, head) for head in heads] for row in table.rows]
        shown = RichTable(title=table.question, title_justify="left", box=SIMPLE_HEAD)
        for head in heads:
            numbers = all(not isinstance(row[head[0]], str) for row in table.rows)
            side: Literal["left", "right"] = "right" if numbers else "left"
            shown.add_column(_title(head).replace(" ", "\n"), justify=side, no_wrap=True)
        for line in lines:
            shown.add_row(*line)
        whole = console.measure(shown, options=console.options.update(width=_WIDE)).maximum
        if table.rows and whole <= console.width:
            console.print(shown)
        elif table.rows or table.notes:
            console.print(table.question)
            for line in lines:
                console.print(f"- {_in_words(heads, line)}")
        for note in table.notes:
            console.print(f"- {note}")


Head = tuple[str, ...]
"""A column, or the two of an interval."""


def _heads(table: Table) -> list[Head]:
    """The columns to show, those of an interval together."""
    heads: list[Head] = []
    for name in table.main:
        values = table.column(name)
        if all(value in (None, "") for value in values) and values:
            continue
        if name == "reading" and len(set(values)) == 1:
            continue
        other = name.removesuffix("high") + "low"
        if name.endswith("high") and heads and heads[-1] == (other,):
            heads[-1] = (other, name)
        else:
            heads.append((name,))
    return heads


def _title(head: Head) -> str:
    if len(head) == 1:
        return head[0].replace("_", " ")
    return f"{head[0].removesuffix('low')}interval".replace("_", " ")


def _cell(table: Table, row: Mapping[str, Value], head: Head) -> str:
    texts = [cell_text(row[name]) for name in head]
    return texts[0] if len(head) == 1 or not texts[0] else f"[{', '.join(texts)}]"


def _in_words(heads: Sequence[Head], line: Sequence[str]) -> str:
    """A row as one sentence: what it is about, then each number with its name."""
    about = [text for head, text in zip(heads, line, strict=True) if head[0] in _ABOUT]
    rest = [
        f"{_title(head)} {text}"
        for head, text in zip(heads, line, strict=True)
        if head[0] not in _ABOUT and text
    ]
    return f"{', '.join(about)}: {', '.join(rest)}"
