"""MMLU: JSON Lines of whole prompts, or its CSV files, one a subject and without a header."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metro_fast._json import json_lines, parse_json
from metro_fast._shown import quoted
from metro_fast.errors import FormatError
from metro_fast.prompts.item import Item
from metro_fast.prompts.readers.read import Collector, Read, RowError
from metro_fast.prompts.readers.table import table_rows

__all__ = ["read_mmlu"]

_LETTERS = "ABCD"
_PROMPT = re.compile(
    r"(?:The following are multiple choice questions \(with answers\) about\s+[^\n]*\.\n\n)?"
    r"(.*)\nA\. (.*?)\nB\. (.*?)\nC\. (.*?)\nD\. (.*?)\nAnswer:\s*",
    re.DOTALL,
)
_COLUMNS = ("question", "A", "B", "C", "D", "answer")


def read_mmlu(path: str | os.PathLike[str], *, name: str = "mmlu", split: str = "test") -> Read:
    """Read MMLU from JSON Lines, from one CSV file, or from a folder of CSV files.

    Items are grouped by subject. They have the fields `question`, `subject`, and those of ARC
    (`choices` with `text` and `label`, and `answerKey`), so that ARC's templates of promptsource
    word them. Three of the 1,531 validation items have a choice twice: they are taken with a
    remark, since a reading by letters can ask them.

    Args:
        path: `*.csv` (question, four choices, letter of the answer; the subject is the file's name
            without `_test`, `_val` or `_dev`), a folder of these, or JSON Lines whose objects have
            `subject`, `input` (a prompt that ends with the four choices and `Answer:`) and `output`
            (the letter).
        name: Name of the task.
        split: Part of the data.

    Returns:
        The task, of type `qa`, and the report.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        FormatError: If a file is not of that kind, or no row is an item.

    Example:
        >>> _ = Path("law_test.csv").write_text('Who judges?,Cook,Judge,"Sea, sky",Poet,B')
        >>> task, report = read_mmlu("law_test.csv")
        >>> task.items[0].id, task.items[0].answer_text, report.taken
        ('law/0', 'Judge', 1)
    """
    path = Path(path)
    collector = Collector(path)
    numbers: Counter[str] = Counter()
    for where, row in _folder_rows(path) if path.is_dir() else _file_rows(path):
        # Numbers count the rows that are not taken too, so that ids are those of the file.
        subject = str(row.get("subject", ""))
        number = numbers[subject]
        numbers[subject] += 1
        collector.add(where, lambda r=row, i=f"{subject}/{number}": _item(i, r))  # type: ignore[misc]
    return collector.finish(name, "qa", split)


def _folder_rows(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(folder.glob("*.csv")):
        yield from _file_rows(file)


def _file_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each row is, and its subject, question, A to D and answer."""
    if path.suffix.lower() == ".csv":
        subject = re.sub(r"_(test|val|dev)$", "", path.stem)
        for number, row in enumerate(table_rows(path, _COLUMNS)):
            yield f"{path.name} row {number}", {"subject": subject, **row}
        return
    for number, line in json_lines(path):
        where = f"{path}:{number}"
        record = parse_json(line, where)
        if not isinstance(record, dict):
            raise FormatError(f"{where} holds a {type(record).__name__}; give a JSON object")
        found = _PROMPT.fullmatch(str(record.get("input")))
        values = {} if found is None else dict(zip(_COLUMNS, found.groups(), strict=False))
        yield f"line {number}", {
            "subject": record.get("subject"), **values, "answer": record.get("output"),
        }  # fmt: skip


def _item(item_id: str, row: dict[str, Any]) -> Item:
    if not row.get("subject") or not row.get("question"):
        raise RowError("no question with four choices", f"the row has only {', '.join(row)}")
    letter = str(row["answer"]).strip()
    if letter not in tuple(_LETTERS):
        raise RowError(
            "no answer among the choices", f"the answer is {quoted(letter)}, not A, B, C or D"
        )
    texts = [row[letter] for letter in _LETTERS]
    subject = str(row["subject"])
    fields = {
        "question": row["question"],
        "subject": subject.replace("_", " "),
        "choices": {"text": texts, "label": list(_LETTERS)},
        "answerKey": letter,
    }
    return Item(item_id, fields, tuple(texts), _LETTERS.index(letter), subject)
