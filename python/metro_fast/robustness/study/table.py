"""One table of a study: rows with named columns, which the page and every format show alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Table", "Value"]

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Table:
    """The answer to one question.

    Attributes:
        name: Its name in files and commands, such as `scale`.
        question: The question that it answers.
        columns: By name of column what it means, with its unit; shares and differences are from 0
            to 1 and -1 to 1.
        rows: Each has every column; None where there is no number, which `notes` or the column's
            meaning explains.
        notes: What is not in the rows, and why.
        main: The columns to show where there is little room, as on a terminal.
    """

    name: str
    question: str
    columns: Mapping[str, str]
    rows: tuple[Mapping[str, Value], ...]
    notes: tuple[str, ...] = ()
    main: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Table {self.name}: {len(self.rows)} rows of {len(self.columns)} columns>"

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[Value]:
        """The values of one column.

        Raises:
            KeyError: If there is no such column.
        """
        return [row[name] for row in self.rows]

    def to_record(self) -> dict[str, Any]:
        """The table as plain JSON values."""
        return {
            "name": self.name,
            "question": self.question,
            "columns": dict(self.columns),
            "main": list(self.main),
            "rows": [dict(row) for row in self.rows],
            "notes": list(self.notes),
        }


def make_table(
    name: str,
    question: str,
    columns: Mapping[str, str],
    rows: Sequence[Sequence[Value]],
    notes: Sequence[str] = (),
    *,
    main: str,
    empty: str = "",
) -> Table:
    """A table from rows of values in the order of the columns.

    `main` has names with spaces between; `empty` is the note of a table without rows or notes.
    """
    if empty and not rows and not notes:
        notes = (empty,)
    named = tuple(dict(zip(columns, row, strict=True)) for row in rows)
    shown = tuple(main.split())
    assert columns.keys() >= set(shown), set(shown) - columns.keys()
    return Table(name, question, columns, named, tuple(dict.fromkeys(notes)), shown)
