"""Tables as CSV, Markdown and JSON: read back whole, and strangers' names stay texts."""

import csv
import io
import json

import pytest

from metro_fast.robustness import tables_csv, tables_json, tables_markdown
from metro_fast.robustness.study.table import make_table

NAMES = (
    '=cmd|"/C calc"!A0', "+1", "@SUM(A1)", "-2", "\t=1", " =1", "\uff1d1", 'a,b"c', "a|b",
    "<img src=x onerror=alert(1)>", "[x](javascript:1)", "a\x1b[2J", "\u202ebase", "two\nlines",
)  # fmt: skip


@pytest.fixture
def table():
    rows = [[name, number, 0.123456789, None, number == 0] for number, name in enumerate(NAMES)]
    columns = {"name": "N.", "count": "C.", "share": "S.", "nothing": "X.", "flag": "F."}
    return make_table("t", "Which <b>?", columns, rows, ["a | note"], main="name count share")


def test_csv_is_read_back_and_runs_nothing(table):
    header, *found = csv.reader(io.StringIO(tables_csv(table)))
    assert header == list(table.columns)
    assert len(found) == len(NAMES)
    for name, row in zip(NAMES, found, strict=True):
        assert not row[0].lstrip("\t ").startswith(("=", "+", "-", "@", "\uff1d"))
        assert row[0].isprintable() or "\n" in row[0]
        assert float(row[2]) == 0.123456789
        assert row[3] == ""
        if name.isprintable() and name[0] in "a<[":
            assert row[0] == name


def test_markdown_has_one_row_for_each_and_no_html(table):
    text = tables_markdown([table])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(NAMES)
    for line in lines[2:]:
        assert line.replace("\\|", "").count("|") == 4
        assert "<img" not in line.replace("\\<", "")
        assert "](" not in line
        assert line.isprintable()
    assert "0.123" in lines[2]
    assert "- a \\| note" in text


def test_json_has_every_digit(table):
    text = tables_json([table])
    (found,) = json.loads(text)["tables"]
    assert found == table.to_record()
    assert found["rows"][0]["share"] == 0.123456789
    assert text.isascii()


def test_a_table_without_rows_says_so():
    empty = make_table("t", "Which?", {"a": "A."}, [], ["why"], main="a")
    assert "Not a single row." in tables_markdown([empty])
    assert tables_csv(empty) == "a\n"
