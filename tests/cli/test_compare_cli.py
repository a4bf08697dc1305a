"""`metro-fast compare`, `report`, `recompute` and `plan`, from saved folders alone."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import study_cases
from front_door import call
from matrix_cases import matrix_report
from metro_fast.robustness import Study, compare, load_reports, plan_table, write_cards
from study_cases import TASKS, report


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each model of the study, and one with all of them and their cards."""
    folder = tmp_path_factory.mktemp("room")
    study = study_cases.study()
    for member in study.members:
        member.report.save(folder / member.card.name)
        member.report.save(folder / "all")
    write_cards(folder / "all", {(m.card.name, m.report.model_hash): m.card for m in study.members})
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class TestCompare:
    def test_the_sentence_and_the_table(self, room):
        ended = call("compare", "full", "small", "--margin", 2, folder=room)
        assert (ended.status, ended.stderr) == (0, "")
        found = compare(report("full"), report("small"), margin=0.02)
        for task in TASKS:
            assert f"{task}: {found.sentence(task)}" in " ".join(ended.stdout.split())
        assert "w2 loses" in ended.stdout

    @pytest.mark.parametrize(
        ("options", "status"),
        [
            (["--fail-if", "worse"], 1),
            (["--fail-if", "worse", "--tasks", "relations"], 0),
            (["--fail-if", "better"], 0),
            (["--fail-if", "worse", "better", "--tasks", "questions"], 1),
            ([], 0),
        ],
    )
    def test_the_status_of_a_gate(self, room, options, status):
        ended = call("compare", "full", "small", "--margin", 2, *options, folder=room)
        assert ended.status == status
        assert ("questions: small is worse, and --fail-if worse" in ended.said) == (status == 1)

    def test_equality_must_be_shown(self, room, tmp_path):
        """With 300 items two points can be shown for equal models, and one point never can."""
        right = np.random.default_rng(0).random((4, 300)) < 0.8
        for name in ("one", "other"):
            matrix_report(right, model=name).save(tmp_path / name)
        gate = ["--fail-if", "worse", "--fail-if", "undecided"]
        assert call("compare", "one", "other", *gate, "--margin", 2, folder=tmp_path).status == 0
        ended = call("compare", "one", "other", *gate, "--margin", 1, folder=tmp_path)
        assert ended.status == 1
        assert "cases: other is undecided" in ended.said

    def test_formats_hold_the_same_rows(self, room, tmp_path):
        line = ["compare", "full", "small", "--margin", "2", "--format"]
        table = json.loads(call(*line, "json", folder=room).stdout)["tables"][0]
        found = list(csv.DictReader(io.StringIO(call(*line, "csv", folder=room).stdout)))
        assert [row["task"] for row in table["rows"]] == list(TASKS)
        assert [row["verdict"] for row in found] == [row["verdict"] for row in table["rows"]]
        assert [float(row["low"]) for row in found] == [row["low"] for row in table["rows"]]
        text = call(*line, "md", folder=room).stdout
        assert text.count("\n|") == 2 + len(TASKS)
        ended = call(*line, "json", "--output", tmp_path / "t.json", folder=room)
        assert ended.status == 0
        assert json.loads((tmp_path / "t.json").read_text())["tables"][0] == table

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["full", "full"], "both arguments are full/results_full_metro_t0.json"),
            (["full", "nowhere"], "nowhere does not exist: give a results_*.json"),
            (["full", "empty"], "empty has no results_*.json: evaluate into this folder first"),
            (["all", "full"], "'all' has the results of several models or readings"),
            (["full", "part"], "full has the tasks relations, questions, part has relations"),
            (["full", "part", "--tasks", "questions"], "no task 'questions', only the tasks rel"),
            (["full", "fewer"], "task 'relations': items_hash differs"),
            (["full", "small", "--margin", "0"], "--margin is 0, expected points above 0"),
            (["full", "small", "--margin", "100"], "--margin is 100, expected points"),
            (["full", "small", "--margin", "nan"], "--margin is nan, expected points"),
            (["full", "small", "--fail-if", "bad"], "--fail-if is 'bad': give worse, undecided"),
            (["full", "small", "--output", "x"], "--output needs --format json, csv or md"),
            (["full", "small", "--format", "xml"], "'xml' is not one of"),
        ],
    )
    def test_what_cannot_be_compared(self, room, arguments, message):
        (room / "empty").mkdir(exist_ok=True)
        if not (room / "part").exists():
            report("full", tasks=TASKS[:1]).renamed("part").save(room / "part")
            fewer = study_cases.answers("full", "relations")[:, :50]
            matrix_report(fewer, model="fewer", task="relations").save(room / "fewer")
        if "fewer" in arguments:
            arguments = [*arguments, "--tasks", "relations"]
        before = files(room)
        ended = call("compare", *arguments, folder=room)
        assert ended.status == 2, ended.said
        assert message in ended.said.replace("metro-fast: ", "")
        assert files(room) == before

    def test_an_output_is_not_an_input(self, room):
        before = files(room)
        name = "full/results_full_metro_t0.json"
        ended = call("compare", name, "small", "--format", "json", "--output", name, folder=room)
        assert ended.status == 2
        assert "would be replaced: choose another file" in ended.said
        assert files(room) == before

    def test_models_of_one_name_are_called_by_their_folders(self, tmp_path):
        for place, name in (("old", "full"), ("new", "small")):
            report(name, tasks=TASKS[:1]).renamed("main").save(tmp_path / place)
        ended = call("compare", "old", "new", "--format", "csv", folder=tmp_path)
        (row,) = csv.DictReader(io.StringIO(ended.stdout))
        assert (row["model"], row["reference"]) == ("main (new)", "main (old)")

    def test_a_name_with_a_formula_or_an_escape(self, tmp_path):
        right = np.random.default_rng(0).random((2, 40)) < 0.8
        for name, place in (("=1+1", "a"), ("b\x1b[2J<script>", "b")):
            matrix_report(right, model=name[:8]).renamed(name).save(tmp_path / place)
        for kind in ("text", "csv", "md", "json"):
            ended = call("compare", "a", "b", "--format", kind, folder=tmp_path)
            assert ended.status == 0
            assert "\x1b" not in ended.stdout
        (row,) = csv.DictReader(
            io.StringIO(call("compare", "a", "b", "--format", "csv", folder=tmp_path).stdout)
        )
        assert row["reference"] == "'=1+1"


class TestReport:
    def test_tables_of_a_folder(self, room):
        shown = call("report", "all", "--table", "broken", "--table", "scale", folder=room)
        assert shown.status == 0
        assert "w2" in shown.stdout
        assert "Does a larger model of the family do better?" in shown.stdout
        text = call("report", "all", "--margin", 2, "--format", "json", folder=room).stdout
        tables = {table["name"]: table for table in json.loads(text)["tables"]}
        assert len(tables["wordings"]["rows"]) == 4 * 2 * 8
        verdicts = {row["task"]: row["verdict"] for row in tables["against_original"]["rows"]}
        assert verdicts["questions"] == "worse"

    def test_a_csv_for_each_table(self, room, tmp_path):
        folder = tmp_path / "tables"
        ended = call("report", "all", "--format", "csv", "--output", folder, folder=room)
        assert ended.status == 0
        names = {path.stem for path in folder.glob("*.csv")}
        assert {"models", "scores", "broken", "seen_wordings", "facets"} <= names
        with (folder / "models.csv").open(newline="") as file:
            assert [row["model"] for row in csv.DictReader(file)] == [
                "base", "full", "large", "small"
            ]  # fmt: skip

    def test_several_folders_are_one_study(self, room):
        ended = call("report", "full", "large", "--table", "ranks", folder=room)
        assert "large, full" in ended.stdout

    def test_the_page(self, room, tmp_path):
        page = tmp_path / "page.html"
        assert call("report", "all", "--format", "html", "--output", page, folder=room).status == 0
        assert "small" in page.read_text()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["empty"], "empty has no results_*.json: evaluate into this folder first"),
            (["all", "--table", "scores2"], "--table is 'scores2': give one or several of models"),
            (["all", "--format", "csv"], "prints one table: choose it with --table"),
            (["all", "--format", "html"], "give --output a file, and no --table"),
            (["all", "--margin", "-1"], "--margin is -1, expected points above 0"),
            (["all", "--output", "x"], "--output needs --format"),
        ],
    )
    def test_refusals(self, room, arguments, message):
        (room / "empty").mkdir(exist_ok=True)
        ended = call("report", *arguments, folder=room)
        assert ended.status == 1
        assert message in ended.said


class TestRecompute:
    def test_numbers_come_back_from_the_cells_alone(self, tmp_path):
        report("base").save(tmp_path)
        path = tmp_path / "results_base_metro_t0.json"
        before = path.read_bytes()
        numbers = load_reports(tmp_path)[0].summary("relations")
        path.unlink()
        ended = call("recompute", tmp_path)
        assert ended.status == 0, ended.said
        assert "base: questions, relations" in ended.stdout
        assert load_reports(tmp_path)[0].summary("relations") == numbers
        assert json.loads(path.read_bytes())["results"] == json.loads(before)["results"]
        assert (tmp_path / "report.html").is_file()

    def test_a_folder_without_cells(self, tmp_path):
        ended = call("recompute", tmp_path)
        assert ended.status == 1
        assert "has no cells: evaluate with --output this folder first" in ended.said.replace(
            "output= ", "--output "
        )


def test_a_plan_in_every_format(room):
    line = ["plan", "full", "--half-width", "5", "--format"]
    expected = plan_table(Study.load(room / "full"), half_width=0.05)
    (table,) = json.loads(call(*line, "json", folder=room).stdout)["tables"]
    assert table == expected.to_record()
    found = list(csv.DictReader(io.StringIO(call(*line, "csv", folder=room).stdout)))
    assert [int(row["items"]) for row in found] == expected.column("items")


@pytest.mark.parametrize("line", ["compare full small", "report full", "plan full --budget 9999"])
def test_no_command_of_saved_cells_imports_torch(room, line):
    code = (
        "import sys\n"
        "from metro_fast.cli import main\n"
        f"sys.argv = ['metro-fast', *{line.split()!r}]\n"
        "try: main()\n"
        "except SystemExit as stop: print(stop.code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=room, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 False"
