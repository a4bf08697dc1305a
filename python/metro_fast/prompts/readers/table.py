"""Tasks from CSV and TSV files with a header, and from JSON Lines."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metro_fast._json import json_lines, parse_json
from metro_fast._shown import quoted
from metro_fast.errors import FormatError
from metro_fast.prompts.item import Item
from metro_fast.prompts.readers.read import Collector, Read, RowError, integer
from metro_fast.prompts.readers.rows import read_rows

__all__ = ["read_story_cloze", "read_table", "table_rows"]


def read_table(
    path: str | os.PathLike[str],
    *,
    task_type: str,
    answer: str,
    choices: Sequence[str] | str | None = None,
    choice_columns: Sequence[str] = (),
    first_answer: int = 0,
    name: str | None = None,
    id_column: str | None = None,
    group_column: str | None = None,
    rename: Mapping[str, str] | None = None,
    split: str = "test",
) -> Read:
    r"""Read a CSV (`*.csv`) or TSV (`*.tsv`, `*.txt`) file whose first line names the columns.

    A JSON Lines file (`*.jsonl`) has an object per line, whose keys are the columns.

    Args:
        path: The file.
        task_type: Kind of task.
        answer: As for `read_rows`.
        choices: The choices of all rows; `"labels"` takes the different values of the answer's
            column, sorted.
        choice_columns: As for `read_rows`.
        first_answer: As for `read_rows`.
        name: Name of the task; by default the file's stem.
        id_column: As for `read_rows`.
        group_column: As for `read_rows`.
        rename: As for `read_rows`.
        split: Part of the data.

    Returns:
        The task and the report; rows of another length than the header are rejects.

    Raises:
        FileNotFoundError: If the file is absent.
        FormatError: If it is not such a file, or no row is an item.

    Example:
        >>> _ = Path("nli.tsv").write_text("a\tb\tgold\nIt rains.\tIt is wet.\tyes\nX\tY\tno\n")
        >>> task, report = read_table("nli.tsv", task_type="nli", answer="gold", choices="labels")
        >>> print(task.items[0], report)
        Item('0', choices=('no', 'yes'), answer=1) nli.tsv: 2 of 2 taken
    """
    path = Path(path)
    is_json = path.suffix.lower() == ".jsonl"
    rows: list[Any] = list(_json_rows(path) if is_json else table_rows(path))
    if choices == "labels":
        choices = sorted({str(row[answer]) for row in rows if row.get(answer) not in (None, "")})
    return read_rows(
        rows,
        name=name or path.stem,
        task_type=task_type,
        answer=answer,
        choices=choices,
        choice_columns=choice_columns,
        first_answer=first_answer,
        id_column=id_column,
        group_column=group_column,
        rename=rename,
        split=split,
        source=str(path),
    )


def read_story_cloze(
    path: str | os.PathLike[str], *, name: str = "story_cloze", split: str = "validation"
) -> Read:
    """Read StoryCloze: four sentences, two endings, and the number of the right one.

    Args:
        path: CSV file with the columns InputStoryid, InputSentence1 to InputSentence4,
            RandomFifthSentenceQuiz1, RandomFifthSentenceQuiz2 and AnswerRightEnding (1 or 2).
        name: Name of the task.
        split: Part of the data.

    Returns:
        The task, of type `story_cloze/2016`, with the fields that promptsource's templates use;
        and the report.

    Raises:
        FileNotFoundError: If the file is absent.
        FormatError: If it is not such a file, or no row is an item.
    """
    path = Path(path)
    collector = Collector(path)
    for number, row in enumerate(table_rows(path)):

        def make(row: dict[str, str] = row) -> Item:
            columns = {
                **{f"InputSentence{i}": f"input_sentence_{i}" for i in range(1, 5)},
                "RandomFifthSentenceQuiz1": "sentence_quiz1",
                "RandomFifthSentenceQuiz2": "sentence_quiz2",
            }
            missing = [c for c in ("InputStoryid", *columns, "AnswerRightEnding") if not row.get(c)]
            if missing:
                raise RowError("missing column", f"the row has no {quoted(missing[0])}")
            right = integer(row["AnswerRightEnding"], "AnswerRightEnding")
            if right not in (1, 2):
                raise RowError("no answer among the choices", f"AnswerRightEnding is {right}")
            fields: dict[str, str | int] = {to: row[column] for column, to in columns.items()}
            endings = (row["RandomFifthSentenceQuiz1"], row["RandomFifthSentenceQuiz2"])
            fields |= {"answer_right_ending": right}
            return Item(row["InputStoryid"], fields, endings, right - 1)

        collector.add(f"row {number}", make)
    return collector.finish(name, "story_cloze/2016", split)


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file, each on a line of its own."""
    for number, line in json_lines(path):
        if not line.strip():
            continue
        row = parse_json(line, f"{path}:{number}")
        if not isinstance(row, dict):
            raise FormatError(f"{path}:{number} holds a {type(row).__name__}; give a JSON object")
        yield row


def table_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, str]]:
    """The rows of a CSV or TSV file.

    Args:
        path: The file; `*.csv` has commas and quotes, any other tabs alone.
        columns: Names of the columns, where the file has no header.

    Yields:
        Each row by column; one of another length than the header is empty, so that no reader takes
        it for a whole one.

    Raises:
        FormatError: If the file is not UTF-8, or a line is not CSV.
    """
    is_csv = path.suffix.lower() == ".csv"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = (
                csv.reader(file, strict=True)
                if is_csv
                else csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            )
            header = list(columns) if columns is not None else next(reader, [])
            for row in reader:
                if row and len(row) != len(header):
                    yield {}
                elif row:
                    yield dict(zip(header, row, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not a {'CSV' if is_csv else 'TSV'} file: {error}") from error
