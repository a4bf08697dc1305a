"""Reports, comparison and page, on cells with known scores."""

import csv
import dataclasses
import gzip
import io
import json
import re
import warnings
from collections.abc import Sequence
from html import unescape
from html.parser import HTMLParser
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest

from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts import Instruction, Item, Task, render_items
from metro_fast.robustness import Cell, CellRecord, Report, compare, recompute, write_page
from metro_fast.robustness.worded import prompts_hash
from metro_fast.scoring import PROTOCOLS, Outcome

RELATIONS = ("capital", "city", "border", "continent", "no relation")
TEMPLATES = (
    "{{ text }} What is the relation of {{ a }} and {{ b }}?",
    "{{ text }} How are {{ a }} and {{ b }} related: {{ options }}?",
    "Read: {{ text }} Then choose the relation of {{ a }} to {{ b }} from {{ options }}.",
    "{{ a }} , {{ b }} : {{ text }}",
    "{{ a }} and {{ b }} are mentioned in the following: {{ text }} Name their relation.",
    "Text: {{ text }}\nEntities: {{ a }}, {{ b }}\nRelation:",
    "Which of {{ options }} holds between <{{ a }}> & <{{ b }}>? {{ text }}",
    "{{ text }} {{ a }}? {{ b }}?",
)


def make_task(name: str, count: int, *, grouped: bool = False) -> Task:
    draw = np.random.default_rng(7)
    countries = ("Norway", "France", "Italy", "Kenya", "Peru")
    items = []
    for index in range(count):
        a, b = draw.choice(countries, 2, replace=False)
        answer = int(draw.integers(5))
        text = f"{a} has 3 neighbors & a long coast. {b} is its {RELATIONS[answer]}."
        group = f"passage {index // 4}" if grouped else None
        items.append(Item(f"{index}", {"text": text, "a": a, "b": b}, RELATIONS, answer, group))
    return Task(name, name, tuple(items))


def make_cells(
    task: Task, model: str, rates: Sequence[float], *, seed: int = 0, model_hash: str | None = None
) -> list[Cell]:
    """Cells whose instruction p is right with about `rates[p]`; the first half is seen."""
    shared = np.random.default_rng(3).random(
        len(task)
    )  # the difficulty of each item, shared by all models
    draw = np.random.default_rng(seed)
    cells = []
    for p, rate in enumerate(rates):
        instruction = Instruction(
            f"{task.task_type}-{p}",
            task.task_type,
            TEMPLATES[p],
            seen_by=("t5",) if p < len(rates) / 2 else (),
        )
        rendered = render_items(instruction, task)
        record = CellRecord(
            model, "t5", model_hash or f"{model:0<64}", "a" * 64, task.name, task.task_type,
            task.split, task.metric, task.sha256, instruction, prompts_hash(rendered), "metro_t0",
            PROTOCOLS["metro_t0"].identity,
        )  # fmt: skip
        outcomes = []
        for index, item in enumerate(task):
            row = draw.normal(-8, 1, 5)
            right = 0.7 * shared[index] + 0.3 * draw.random() < rate
            place = item.answer if right else (item.answer + int(draw.integers(1, 5))) % 5
            row[place] = -2.0 + 0.1 * draw.random()
            outcomes.append(Outcome(int(row.argmax()), tuple(row.tolist())))
        cells.append(Cell(record, task, rendered, tuple(outcomes)))
    return cells


SEEN_AND_UNSEEN = (0.66, 0.61, 0.7, 0.64, 0.36, 0.6, 0.55, 0.58)


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    relations, questions = make_task("relations", 120, grouped=True), make_task("questions", 80)
    result = []
    for number, name in enumerate(("base", "expert", "compressed")):
        rates = [min(rate + 0.08 * (number > 0), 1) for rate in SEEN_AND_UNSEEN]
        cells = make_cells(relations, name, rates, seed=number)
        if number < 2:
            cells += make_cells(questions, name, [0.4, 0.38, 0.41, 0.35], seed=9 + number)
        result.append(Report(cells, versions={"torch": "2.15.0"}, date=1_795_000_000.0))
    return result


class Page(HTMLParser):
    """Checks nesting, and collects the text and everything that a browser would load."""

    void = frozenset({"meta", "br", "link", "img"})

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.loads: list[str] = []
        self.pictures: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.loads += [
            f"{tag} {name}={value}"
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "srcset", "data")
            # A place of the page, or a file that it saves itself.
            and not value.startswith("#")
            and not ("download" in values and value.startswith("data:"))
        ]
        if tag in ("script", "link", "iframe", "object", "base"):
            self.loads.append(tag)
        if values.get("role") == "img":
            self.pictures.append(values["aria-label"])
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_data(self, data):
        self.text += data


class TestReport:
    def test_tasks_and_cells(self, reports):
        base = reports[0]
        assert base.tasks == ("relations", "questions")
        assert [len(base.task_cells(task)) for task in base.tasks] == [8, 4]
        assert (base.model_name, base.model_family, base.preset) == ("base", "t5", "metro_t0")
        with pytest.raises(MetroFastError, match="no task 'x', only the tasks relations"):
            base.summary("x")

    def test_summary_agrees_with_its_cells(self, reports):
        summary = reports[0].summary("relations")
        accuracies = [cell.value for cell in reports[0].task_cells("relations")]
        assert [row.value for row in summary.instructions] == accuracies
        assert summary.mean == pytest.approx(np.mean(accuracies))
        assert summary.variance.raw == pytest.approx(np.std(accuracies, ddof=1))
        assert summary.worst.instruction_id == "relations-4"
        assert summary.spread == max(accuracies) - min(accuracies)
        assert summary.median.value == sorted(accuracies)[3]
        assert summary.gap.gap == pytest.approx(np.mean(accuracies[:4]) - np.mean(accuracies[4:]))
        assert summary.gap.p_value is None
        assert summary.chance == pytest.approx(0.2)
        answers = [item.answer for item in reports[0].task_cells("relations")[0].items]
        assert summary.majority_share == np.bincount(answers).max() / 120

    def test_round_trip(self, reports, tmp_path):
        base = reports[0]
        path = base.save(tmp_path)
        assert path.name == "results_base_metro_t0.json"
        loaded = Report.load(tmp_path)
        assert loaded.cells == base.cells
        assert (loaded.versions, loaded.date) == (base.versions, base.date)
        assert loaded.summary("relations") == base.summary("relations")
        assert not list(tmp_path.glob(".*"))

    def test_results_have_the_shape_of_lm_eval(self, reports, tmp_path):
        record = json.loads(reports[0].save(tmp_path).read_text())
        keys = ["results", "groups", "group_subtasks", "configs", "versions", "config", "date"]
        assert {*keys, "n-shot", "higher_is_better", "n-samples"} <= record.keys()
        accuracy = record["results"]["relations/relations-4"]["acc,none"]
        assert accuracy == reports[0].task_cells("relations")[4].value
        stderr = record["results"]["relations/relations-4"]["acc_stderr,none"]
        correct = reports[0].task_cells("relations")[4].correct
        assert stderr == pytest.approx(np.std(correct, ddof=1) / 120**0.5)
        names = [f"questions/questions-{i}" for i in range(4)]
        assert record["group_subtasks"]["questions"] == names
        for task in record["metro_fast"]["tasks"]:
            assert {"model_hash", "items_hash", "preset", "split", "n_items"} <= task.keys()

    def test_lm_eval_prints_the_results(self, reports, tmp_path):
        utils = pytest.importorskip("lm_eval.utils", reason="lm_eval is not installed")
        pytest.importorskip("pytablewriter")
        record = json.loads(reports[0].save(tmp_path).read_text())
        table = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in utils.make_table(record).splitlines()
        ]
        rows = {row[0].removeprefix("- "): row[1:] for row in table[2:]}
        for cell in reports[0].cells:
            row = rows.pop(f"{cell.record.task}/{cell.record.instruction.id}")
            assert row[:4] == ["1", "none", "0", "acc"]
            assert row[5] == f"{cell.value:.4f}"
            assert float(row[7]) == pytest.approx(
                np.std(cell.correct, ddof=1) / len(cell.correct) ** 0.5, abs=1e-4
            )
        assert {name: row[5] for name, row in rows.items()} == {
            task: f"{reports[0].summary(task).mean:.4f}" for task in reports[0].tasks
        }
        groups = utils.make_table(record, "groups")
        assert all(f"|{task}" in groups for task in reports[0].tasks)

    def test_recompute_needs_only_the_cells(self, reports, tmp_path):
        for report in reports:
            report.save(tmp_path)
        old = {path: path.read_text() for path in tmp_path.glob("results_*.json")}
        assert [r.model_name for r in recompute(tmp_path)] == ["base", "compressed", "expert"]
        for path, text in old.items():
            new = json.loads(path.read_text())
            assert new["results"] == json.loads(text)["results"]
            path.unlink()
        result = recompute(tmp_path)
        mean = reports[0].summary("relations").mean
        assert result[0].summary("relations").mean == mean
        assert result[0].date_text == "unknown"

    def test_recompute_notices_a_changed_answer(self, reports, tmp_path):
        reports[0].save(tmp_path)
        (path,) = tmp_path.glob("items/relations-*.jsonl.gz")
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        item = json.loads(lines[3])
        item["answer"] = (item["answer"] + 1) % 5
        changed = "\n".join([*lines[:3], json.dumps(item), *lines[4:]])
        path.write_bytes(gzip.compress(changed.encode()))
        with pytest.raises(FormatError, match=rf"{path.name}: the items are not those of the hash"):
            recompute(tmp_path)

    def test_mixtures_are_refused(self):
        task = make_task("relations", 20)
        cells = make_cells(task, "base", [0.5, 0.6])
        with pytest.raises(MetroFastError, match="at least one cell"):
            Report([])
        with pytest.raises(MetroFastError, match="is given twice"):
            Report([cells[0], cells[0]])
        with pytest.raises(MetroFastError, match="mixes model_hash"):
            Report([cells[0], make_cells(task, "base", [0.5, 0.6], model_hash="b" * 64)[1]])
        with pytest.raises(MetroFastError, match="'relations' mixes items_hash"):
            Report([cells[0], make_cells(make_task("relations", 21), "base", [0.5, 0.6])[1]])
        other_split = Task("relations", "relations", task.items, split="dev")
        with pytest.raises(MetroFastError, match="mixes split 'test' and 'dev'"):
            Report([cells[0], make_cells(other_split, "base", [0.5, 0.6])[1]])

    def test_bad_files(self, reports, tmp_path):
        with pytest.raises(MetroFastError, match=r"must contain one results_\*.json, found none"):
            Report.load(tmp_path)
        with pytest.raises(FileNotFoundError):
            Report.load(tmp_path / "results_base.json")
        with pytest.raises(FileNotFoundError, match="has no cells"):
            recompute(tmp_path)
        (tmp_path / "results_a.json").write_text("{}")
        with pytest.raises(FormatError, match="not a report"):
            Report.load(tmp_path)
        (tmp_path / "results_a.json").write_text("[]")
        with pytest.raises(FormatError, match="not a report"):
            Report.load(tmp_path)
        (tmp_path / "results_a.json").unlink()
        path = reports[0].save(tmp_path)
        record = json.loads(path.read_text())
        record["metro_fast"]["cells"][0]["file"] = "cells/../../a.jsonl.gz"
        path.write_text(json.dumps(record))
        with pytest.raises(FormatError, match="not the file of a cell"):
            Report.load(path)
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            reports[0].save(tmp_path / "file" / "x")


def shifted(outcome: Outcome, change: float) -> Outcome:
    return Outcome(outcome.prediction, tuple(score - change for score in outcome.scores))


class TestCompare:
    def test_paired_difference(self, reports):
        comparison = compare(reports[0], reports[1])
        assert (comparison.first, comparison.second) == ("base", "expert")
        task = comparison.task("relations")
        expected = reports[1].summary("relations").mean - reports[0].summary("relations").mean
        assert task.difference.mean == pytest.approx(expected)
        assert task.difference.interval.low < expected < task.difference.interval.high
        assert task.verdict == "better"
        assert len(task.instructions) == 8
        assert all(row.adjusted_p >= row.test.p_value for row in task.instructions)
        reverse = compare(reports[1], reports[0]).task("relations")
        assert reverse.verdict == "worse"
        assert reverse.difference.mean == pytest.approx(-expected)

    def test_small_differences_on_few_items_are_not_shown(self, reports):
        task = compare(reports[1], reports[2], tasks=["relations"]).task("relations")
        assert task.verdict == "undecided"

    def test_equal_predictions_are_as_robust_and_identical_runs_warn(self, reports):
        with pytest.warns(UserWarning, match="noise of batching; was the expert or adapter"):
            comparison = compare(reports[0], reports[0], margin=0.15)
        task = comparison.task("relations")
        assert (task.verdict, task.agreement, task.unchanged) == ("as robust", 1.0, True)

    @pytest.mark.parametrize(("change", "warns"), [(7e-6, True), (1e-2, False)])
    def test_scores_that_differ_by_noise_are_those_of_one_model(self, reports, change, warns):
        cells = [
            dataclasses.replace(c, outcomes=tuple(shifted(o, change) for o in c.outcomes))
            for c in reports[0].cells
        ]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            task = compare(reports[0], Report(cells), margin=0.15).task("relations")
        assert (task.verdict, task.unchanged, bool(caught)) == ("as robust", warns, warns)

    def test_models_that_cannot_be_paired_are_refused(self, reports):
        task = make_task("relations", 20)
        first = Report(make_cells(task, "a", [0.5, 0.6, 0.7]))
        with pytest.raises(MetroFastError, match="pass tasks= to name those to compare"):
            compare(reports[0], reports[2])
        with pytest.raises(MetroFastError, match=r"only one of the two .* relations-2"):
            compare(first, Report(make_cells(task, "b", [0.5, 0.6])))
        with pytest.raises(MetroFastError, match="items_hash differs"):
            compare(first, Report(make_cells(make_task("relations", 21), "b", [0.5, 0.6, 0.7])))
        with pytest.raises(MetroFastError, match="margin is 1"):
            compare(first, first, margin=1)
        with pytest.raises(MetroFastError, match="tasks is empty"):
            compare(first, first, tasks=[])
        with pytest.raises(MetroFastError, match="no task 'x'"):
            compare(first, first, tasks=["x"])
        changed = make_cells(task, "b", [0.5, 0.6, 0.7])
        wording = Instruction("relations-0", "relations", "{{ a }}")
        rendered = render_items(wording, task)
        record = dataclasses.replace(
            changed[0].record, instruction=wording, prompts_hash=prompts_hash(rendered)
        )
        changed[0] = dataclasses.replace(changed[0], record=record, rendered=rendered)
        with pytest.raises(MetroFastError, match="'relations-0' is worded differently"):
            compare(first, Report(changed))


@pytest.fixture(scope="module")
def page(reports: list[Report], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    path = write_page(
        tmp_path_factory.mktemp("page") / "new" / "page.html",
        reports,
        title="Wording <b>matters</b> & more",
        baselines={"relations": {"never reads the sentence": 0.31}},
        artifacts={"base": 3_172_000, "expert": 285_184, "compressed": 16_900},
        curves={"Loss by step": {"METRO": [(0, 8.5), (100, 4.25)], "span": [(0, 8.0), (90, 5.0)]}},
    )
    html = path.read_text()
    return html, Page(html)


class TestPage:
    def test_nothing_is_loaded(self, page):
        html, parsed = page
        assert parsed.loads == []
        assert not re.search(r"https?://|@import|url\((?!#)|<script", html)

    def test_numbers_are_there(self, page, reports):
        _, parsed = page
        text = re.sub(r"\s+", " ", parsed.text)
        for report in reports:
            assert report.model_hash in text
            for task in report.tasks:
                summary = report.summary(task)
                assert f"{100 * summary.mean:.1f} %" in text
                assert summary.items_hash in text
                assert report.instructions_hash(task) in text
                for row in summary.instructions:
                    assert f"{100 * row.interval.low:.1f}–{100 * row.interval.high:.1f}" in text  # noqa: RUF001
        assert "never reads the sentence 31.0 %" in text
        assert "best constant answer" in text
        assert "285.2 kB" in text
        assert "16.9× smaller than expert" in text  # noqa: RUF001
        assert "metro_t0" in text
        assert "expert is better than base" in text
        assert "n = 120 items under each of 8 instructions" in text
        assert "p = 0.000" not in text

    def test_text_is_escaped(self, page):
        html, parsed = page
        assert "<b>matters</b>" not in html
        assert "Which of {{ options }} holds between <{{ a }}> & <{{ b }}>?" in parsed.text

    def test_pictures_have_descriptions(self, page):
        _, parsed = page
        # slopes, gap, kinds of tasks, scale by bytes, flips; one chart of curves
        assert len(parsed.pictures) == 6
        assert all(len(description) > 10 for description in parsed.pictures)

    def test_pictures_can_be_saved_with_their_numbers(self, page, reports):
        html, _ = page
        # six pictures, and the matrices
        assert html.count('href="data:image/png;base64,') == 7
        assert html.count('href="data:text/csv;') == 8  # and the bytes
        (address,) = re.findall(r'download="slopes.csv" href="data:[^,]*,([^"]*)"', html)
        rows = list(csv.DictReader(io.StringIO(unquote(unescape(address)))))
        assert [(row["model"], row["task"]) for row in rows] == [
            ("expert", "relations"), ("compressed", "relations"), ("expert", "questions"),
        ]  # fmt: skip
        task = compare(reports[0], reports[1]).task("relations")
        assert float(rows[0]["difference"]) == 100 * task.difference.mean
        assert rows[0]["verdict"] == task.verdict
        assert reports[1].summary("relations").items_hash[:8] in rows[0]["source"]

    def test_compared_pairs(self, reports, tmp_path):
        text = Page(write_page(tmp_path / "a.html", reports).read_text()).text
        for pair in ("expert − base", "compressed − base"):  # noqa: RUF001
            assert pair in text
        assert "compressed − expert" not in text  # noqa: RUF001
        path = write_page(tmp_path / "b.html", reports, pairs=[("compressed", "expert")])
        text = Page(path.read_text()).text
        assert "expert − compressed" in text  # noqa: RUF001
        assert "expert − base" not in text  # noqa: RUF001

    def test_cards_give_a_curve_over_parameters(self, reports, tmp_path):
        cards = [
            SimpleNamespace(name="base", size=10**6),
            SimpleNamespace(name="expert", size=None),
        ]
        html = write_page(tmp_path / "one.html", reports, cards=cards).read_text()
        assert "Value by parameters" not in html  # there is one size only
        cards[1].size = 3 * 10**6
        html = write_page(tmp_path / "two.html", reports, cards=cards).read_text()
        (address,) = re.findall(r'download="scale.csv" href="data:[^,]*,([^"]*)"', html)
        rows = list(csv.DictReader(io.StringIO(unquote(unescape(address)))))
        assert [(row["model"], float(row["parameters"])) for row in rows] == [
            ("base", 1e6),
            ("expert", 3e6),
        ]
        means = [reports[1].summary(task).mean for task in ("relations", "questions")]
        assert float(rows[1]["mean"]) == pytest.approx(100 * np.mean(means))

    def test_a_single_cell_is_enough(self, tmp_path):
        task = make_task("relations", 1)
        report = Report(make_cells(task, "base", [0.5]))
        text = Page(write_page(tmp_path / "one.html", [report]).read_text()).text
        assert "Instruction robustness of base" in text
        assert "relations-0" in text

    def test_wordings_that_tie_are_said_to_tie(self, tmp_path):
        cells = make_cells(make_task("relations", 12), "base", [1.0, 1.0])
        report = Report(cells)
        text = Page(write_page(tmp_path / "tie.html", [report]).read_text()).text
        assert "base answers 100.0 % correctly under each of the 2 wordings." in text
        assert "base: every instruction gives 100.0 %" in text
        for nonsense in ("could be chance", "worst to best wording", "the worst instruction is"):
            assert nonsense not in text
        seen = Report(cells[:1])
        summary = seen.summary("relations")
        assert (summary.seen_mean, summary.unseen_mean) == (1, None)
        html = write_page(tmp_path / "seen.html", [seen]).read_text()
        start = html.index('aria-label="Summary of relations"')
        row = html[html.index("<tbody>", start) : html.index("</tr>", html.index("<tbody>", start))]
        assert row.count("<td>100.0 %</td>") == 4  # mean, seen, worst, best
        unseen = Report(cells[1:])  # as with a model whose family nothing was seen by
        summary = unseen.summary("relations")
        assert (summary.seen_mean, summary.unseen_mean) == (None, 1)
        html = write_page(tmp_path / "unseen.html", [unseen]).read_text()
        start = html.index('aria-label="Summary of relations"')
        row = html[html.index("<tbody>", start) : html.index("</tr>", html.index("<tbody>", start))]
        values = re.findall("<td>(.*?)</td>", row)
        assert values[:5] == ["100.0 %", "\N{EN DASH}", "100.0 %", "100.0 %", "100.0 %"]

    def test_reports_of_one_name_get_different_names(self, reports, tmp_path):
        with pytest.warns(UserWarning, match="'base' and 'base, number 2' is the same up to"):
            path = write_page(tmp_path / "page.html", [reports[0], reports[0]])
        assert "<strong>base, number 2</strong> against" in path.read_text()

    def test_bad_arguments(self, reports, tmp_path):
        path = tmp_path / "page.html"
        for keywords, message in (
            ({"baselines": {"x": {"a": 0.5}}}, "no report has a task 'x'"),
            ({"baselines": {"relations": {"a": 50}}}, "'a' of 'relations' is 50"),
            ({"artifacts": {"base": -1}}, "'base' has -1 bytes"),
            ({"curves": {"loss": {"METRO": []}}}, "'METRO' has no points"),
            ({"curves": {"loss": {}}}, "has no curve"),
            ({"curves": {"loss": {"METRO": [(0, float("nan"))]}}}, "not finite"),
            ({"pairs": [("base", "x")]}, "no report is of 'x'"),
        ):
            with pytest.raises(MetroFastError, match=message):
                write_page(path, reports, **keywords)
        with pytest.raises(MetroFastError, match="reports is empty"):
            write_page(path, [])
        assert not path.exists()
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            write_page(tmp_path / "file" / "page.html", reports)


def test_reprs_are_one_short_line(reports):
    base, expert = reports[:2]
    expected = "<Report of base on relations (8 instructions), questions (4 instructions)>"
    assert repr(base) == expected
    cell = base.cells[0]
    expected = f"accuracy {sum(cell.correct) / 120:.3f} on 120 items"
    assert repr(cell) == f"<Cell base x relations x relations-0; {expected}>"
    summary = base.summary("relations")
    numbers = f"accuracy {summary.mean:.3f} over 8 instructions, 120 items"
    assert repr(summary) == f"<TaskSummary of base on relations: {numbers}>"
    comparison = compare(base, expert, tasks=["relations"])
    assert repr(comparison) == "<Comparison of expert with base; relations: better>"
    assert repr(comparison.tasks[0]).startswith(
        "<TaskComparison on relations: better, +10.4 points"
    )
    record = cell.record
    expected = f"<CellRecord base x relations x relations-0; metro_t0, {record.identity[:8]}>"
    assert repr(record) == expected
