"""Tasks from rows with named columns: a list of dictionaries, or a data set of Hugging Face."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from metro_fast._shown import quoted, shown
from metro_fast.errors import MetroFastError
from metro_fast.prompts.item import Item
from metro_fast.prompts.readers.read import Collector, Read, RowError

__all__ = ["read_rows"]


def read_rows(
    rows: Iterable[Mapping[str, Any]],
    *,
    name: str,
    task_type: str,
    answer: str,
    choices: Sequence[str] | str | None = None,
    choice_columns: Sequence[str] = (),
    first_answer: int = 0,
    id_column: str | None = None,
    group_column: str | None = None,
    rename: Mapping[str, str] | None = None,
    split: str = "test",
    source: str | None = None,
) -> Read:
    """Read rows with named columns, for instance a `datasets.Dataset`.

    The choices are one list for all rows, or a column that holds a list (or, as in ARC, an object
    with `text` and `label`), or several columns. Without any of these, they are the names of the
    answer's `ClassLabel`, if `rows` has one; or else each answer is a free text. Every column stays
    a field of the items, so that templates of promptsource find what they name.

    Args:
        rows: The rows.
        name: Name of the task.
        task_type: Kind of task.
        answer: Column of the answer: the text or label of a choice, or else its number.
        choices: The choices of all rows, or the column that holds a row's.
        choice_columns: Columns of which each holds one choice.
        first_answer: The number of the first choice.
        id_column: Column of unique ids; by default rows are numbered from 0.
        group_column: Column of the passage or subject that rows share.
        rename: Fields that are called other than their column: {column: field}.
        split: Part of the data.
        source: What the report calls the rows; by default the name.

    Returns:
        The task and the report; a row without an answer among its choices is a reject.

    Raises:
        MetroFastError: If choices and choice_columns are both given.
        FormatError: If no row is an item.

    Example:
        >>> rows = [{"text": "fine", "label": 1}, {"text": "dull", "label": 0}, {"text": "?"}]
        >>> choices = ["negative", "positive"]
        >>> task, report = read_rows(
        ...     rows, name="films", task_type="cls", answer="label", choices=choices
        ... )
        >>> print(task.items[0].answer_text, report)
        positive films: 2 of 3 taken (missing column: 1)
    """
    if choices is not None and choice_columns:
        raise MetroFastError("choices and choice_columns are both given; give one of the two")
    if choices is None and not choice_columns:
        choices = getattr(getattr(rows, "features", {}).get(answer), "names", None)
    collector = Collector(source or name)
    for number, row in enumerate(rows):

        def make(number: int = number, row: Mapping[str, Any] = row) -> Item:
            group = None if group_column is None else str(_column(row, group_column))
            item_id = str(number if id_column is None else _column(row, id_column))
            texts, labels = _choices(row, choices, choice_columns)
            value = _column(row, answer)
            fields = {(rename or {}).get(column, column): cell for column, cell in row.items()}
            if not texts:
                return Item(item_id, fields, (), None, group, str(value))
            return Item(item_id, fields, texts, _place(value, texts, labels, first_answer), group)

        collector.add(f"row {number}", make)
    return collector.finish(name, task_type, split)


def _column(row: Mapping[str, Any], name: str) -> Any:
    if row.get(name) is None:
        names = shown(", ".join(row), 300)
        raise RowError("missing column", f"the row has no {quoted(name)}; it has {names}")
    return row[name]


def _choices(
    row: Mapping[str, Any], choices: Sequence[str] | str | None, columns: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The texts of a row's choices and their labels, which a row may give beside the texts."""
    if columns:
        return tuple(str(_column(row, column)) for column in columns), ()
    if choices is None:
        return (), ()
    if not isinstance(choices, str):
        return tuple(choices), ()
    value = _column(row, choices)
    if isinstance(value, Mapping):
        return tuple(map(str, value.get("text", ()))), tuple(map(str, value.get("label", ())))
    if isinstance(value, str):
        raise RowError("choices not a list", f"{choices} is {quoted(value)}")
    return tuple(map(str, value)), ()


def _place(value: Any, texts: Sequence[str], labels: Sequence[str], first: int) -> int:
    """Index of the answer: by its label, or else as one of the texts, or else as a number."""
    for known in (labels, texts):
        if str(value) in known:
            return known.index(str(value))
    number = re.fullmatch(r"\s*([+-]?\d{1,9})\s*", str(value)) if not labels else None
    place = int(number[1]) - first if number else -1
    if not 0 <= place < len(texts):
        raise RowError(
            "no answer among the choices", f"{quoted(value)} is not in {quoted(list(texts))}"
        )
    return place
