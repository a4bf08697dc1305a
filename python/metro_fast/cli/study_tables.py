"""Tables of studies on a terminal and in files, in the formats of `--format`."""

from collections.abc import Sequence
from pathlib import Path

import typer
from rich.table import Table as RichTable

from metro_fast._atomic import write_atomically
from metro_fast.cli.console import plain_console
from metro_fast.errors import MetroFastError
from metro_fast.robustness import Table, tables_csv, tables_json, tables_markdown
from metro_fast.robustness.study.formats import cell_text

__all__ = ["show_tables", "write_tables"]


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
    """Print the main columns of tables, each with its question above and its notes below."""
    console = plain_console()
    for table in tables:
        shown = RichTable(title=table.question, title_justify="left")
        for name in table.main:
            numbers = all(not isinstance(row[name], str) for row in table.rows)
            shown.add_column(name, justify="right" if numbers else "left", overflow="fold")
        for row in table.rows:
            shown.add_row(*(cell_text(row[name]) for name in table.main))
        if table.rows:
            console.print(shown)
        elif table.notes:
            console.print(table.question)
        for note in table.notes:
            console.print(f"- {note}")
