"""Cells of every metric, readings and rejects, against slow formulas of another writing."""

import dataclasses
import json
import logging
import string
from collections import Counter

import numpy as np
import pytest

from cell_cases import FREE, LABELS, WORDINGS, make_cell, make_task, random_scores, written
from metro_fast.errors import MetroFastError
from metro_fast.prompts import FewShot, Instruction, Item, RejectError, Task, render_items
from metro_fast.robustness import (
    Cell,
    Report,
    compare,
    evaluate,
    load_reports,
    recompute,
    write_page,
)
from metro_fast.scoring import Engine, Outcome
from semeval_scorer import official

CASES = [
    *((metric, way) for metric in LABELS for way in ("scores", "written")),
    *((metric, "free") for metric in FREE),
]


def plain(text: str) -> list[str]:
    words = "".join(c for c in text.lower() if c not in string.punctuation).split()
    return [word for word in words if word not in ("a", "an", "the")]


def token_f1(gold: str, given: str) -> float:
    common = sum((Counter(plain(gold)) & Counter(plain(given))).values())
    if not common:
        return float(plain(gold) == plain(given))
    precision, recall = common / len(plain(given)), common / len(plain(gold))
    return 2 * precision * recall / (precision + recall)


def micro_f1(pairs: list[tuple[str, str]]) -> float:
    hits = sum(g == p != "no_relation" for g, p in pairs)
    guesses = sum(p != "no_relation" for _, p in pairs)
    actual = sum(g != "no_relation" for g, _ in pairs)
    return 2 * hits / (guesses + actual) if guesses + actual else 0.0


def slow(metric: str, pairs: list[tuple[str, str]]) -> float:
    """The metric of pairs of right and given labels."""
    if metric == "semeval_macro_f1":
        return official([g for g, _ in pairs], [p for _, p in pairs]) / 100
    if metric == "tacred_micro_f1":
        return micro_f1(pairs)
    one = {
        "accuracy": lambda g, p: float(g == p),
        "exact_match": lambda g, p: float(g.strip() == p.strip()),
        "normalized_match": lambda g, p: float(plain(g) == plain(p)),
        "token_f1": token_f1,
    }[metric]
    return sum(one(g, p) for g, p in pairs) / len(pairs)


def given_by(cell: Cell) -> list[tuple[str, str]]:
    """Right and given labels of a cell whose instruction leaves the item's choices as they are."""
    pairs = []
    for item, outcome in zip(cell.items, cell.outcomes, strict=True):
        if item.choices:
            given = item.choices[outcome.prediction] if outcome.prediction >= 0 else ""
            pairs.append((item.choices[item.answer], given))
        else:
            pairs.append((item.target, outcome.text))
    return pairs


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Chosen answers in place of a model's; the seed makes another model of it."""
    settings = {"seed": "one"}

    def answer(engine, prompts, protocol):
        if protocol.generate:
            return written(prompts, settings["seed"])
        return [
            random_scores(len(p.choices), (settings["seed"], n, p.input))
            for n, p in enumerate(prompts)
        ]

    monkeypatch.setattr(Engine, "answer", answer)
    return settings


@pytest.fixture
def ask(answers, tiny_t5, tiny_tokenizer):
    def run(tasks, output=None, *, name="one", instructions=WORDINGS, **options) -> Report:
        answers["seed"] = name
        options = {"preset": "metro_t0", "model_family": "t5", "progress": False} | options
        return evaluate(
            tiny_t5, tiny_tokenizer, tasks, instructions, model_name=name, output=output, **options
        )

    return run


@pytest.mark.parametrize(("metric", "way"), CASES)
def test_every_metric_from_the_answers_to_the_page(ask, tmp_path, metric, way):
    task = make_task(metric, free=way == "free")
    preset = "metro_t0" if way == "scores" else "generate_match"
    reports = [ask([task], tmp_path, name=name, preset=preset) for name in ("one", "two")]
    expected = {
        report.model_name: [slow(metric, given_by(cell)) for cell in report.cells]
        for report in reports
    }
    assert len({round(v, 6) for values in expected.values() for v in values}) > 2
    loaded = load_reports(tmp_path)
    assert [report.cells for report in loaded] == [report.cells for report in reports]
    for report in (*reports, *loaded, *recompute(tmp_path)):
        summary = report.summary("cases")
        values = expected[report.model_name]
        assert [row.value for row in summary.instructions] == pytest.approx(values)
        assert summary.mean == pytest.approx(np.mean(values))
        assert summary.variance.raw == pytest.approx(np.std(values, ddof=1))
        assert summary.gap.gap == pytest.approx(values[0] - np.mean(values[1:]))
        for row in summary.instructions:
            assert 0 <= row.interval.low <= row.value <= row.interval.high <= 1
    first, second = expected["one"], expected["two"]
    task_comparison = compare(*reports).task("cases")
    assert task_comparison.difference.mean == pytest.approx(np.mean(second) - np.mean(first))
    for row, a, b in zip(task_comparison.instructions, first, second, strict=True):
        assert (row.first_value, row.second_value) == (pytest.approx(a), pytest.approx(b))
    page = write_page(tmp_path / "page.html", loaded).read_text()
    for value in (*first, *second):
        assert f"{100 * value:.1f} %" in page
    unread = sum(
        bool(p.choices) and o.prediction < 0
        for c in reports[0].cells
        for p, o in zip(c.prompts, c.outcomes, strict=True)
    )
    right = sum(
        plain(g) == plain(p) if metric == "normalized_match" else g.strip() == p.strip()
        for g, p in given_by(reports[0].cells[0])
    )
    if metric != "token_f1":
        assert reports[0].summary("cases").instructions[0].correct == right
        assert f"{right} of 18 right" in page
    assert sum(row.unread for row in reports[0].summary("cases").instructions) == unread
    assert ("unreadable answers" in page) == (way == "written")
    results = (tmp_path / f"results_one_{preset}.json").read_text()
    record = json.loads(results, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    key = {"accuracy": "acc", "token_f1": "f1"}.get(metric, metric)
    for name, value in zip(("ask", "options", "read"), first, strict=True):
        assert record["results"][f"cases/{name}"][f"{key},none"] == pytest.approx(value)
    assert record["groups"]["cases"][f"{key},none"] == pytest.approx(np.mean(first))


@pytest.mark.parametrize("metric", LABELS)
def test_baselines(ask, metric):
    task = make_task(metric)
    labels, gold = LABELS[metric], [item.answer_text for item in task]
    summary = ask([task]).summary("cases")
    constant = max(slow(metric, [(g, label) for g in gold]) for label in labels)
    assert summary.majority_share == pytest.approx(constant)
    if metric == "semeval_macro_f1":
        scores = []
        for relation in ("City", "Border"):
            actual = sum(g.startswith(relation) for g in gold)
            guesses = len(gold) * sum(label.startswith(relation) for label in labels) / 4
            scores.append(2 * actual / 4 / (guesses + actual))
        chance = np.mean(scores)
    elif metric == "tacred_micro_f1":
        actual = sum(g != "no_relation" for g in gold)
        chance = 2 * actual / 3 / (len(gold) * 2 / 3 + actual)
    elif metric == "token_f1":
        chance = np.mean([token_f1(g, label) for g in gold for label in labels])
    else:
        chance = 1 / len(labels)
    assert summary.chance == pytest.approx(chance)


def test_free_answers_have_no_chance_level(ask):
    task = make_task("token_f1", free=True)
    assert ask([task], preset="generate_match").summary("cases").chance is None


class TestRejects:
    EXTRA = Instruction("extra", "cases", "{{ text }} {{ extra }}")

    def task(self) -> Task:
        """Three items of eighteen lack a field, and one has a choice twice."""
        task = make_task("accuracy")
        items = [
            dataclasses.replace(item, fields=item.fields | ({"extra": "!"} if n > 2 else {}))
            for n, item in enumerate(task.items)
        ]
        items[5] = Item("twice", items[5].fields, ("cat", "cat"), 0)
        return Task("cases", "cases", tuple(items))

    def test_they_are_counted_and_averages_are_over_common_items(self, ask, tmp_path, caplog):
        task = self.task()
        with caplog.at_level(logging.WARNING):
            report = ask([task], tmp_path, instructions=[*WORDINGS, self.EXTRA])
        counts = [{"duplicate choices": 1}] * 3
        counts.append({"undefined field": 3, "duplicate choices": 1})
        assert [cell.rejects_by_reason for cell in report.cells] == counts
        assert [len(cell.items) for cell in report.cells] == [17, 17, 17, 14]
        summary = report.summary("cases")
        assert (summary.item_count, summary.task_item_count) == (14, 18)
        common = {item.id for item in report.cells[3].items}
        for row, cell in zip(summary.instructions, report.cells, strict=True):
            pairs = [
                pair
                for item, pair in zip(cell.items, given_by(cell), strict=True)
                if item.id in common
            ]
            assert row.value == pytest.approx(slow("accuracy", pairs))
            assert row.total == 14
        assert [dict(row.rejects) for row in summary.instructions] == counts
        (loaded,) = load_reports(tmp_path)
        assert loaded.cells == report.cells
        record = json.loads((tmp_path / "results_one_metro_t0.json").read_text())
        assert record["n-samples"]["cases/extra"] == {"original": 18, "effective": 14}
        rows = record["metro_fast"]["tasks"][0]["instructions"]
        assert [row["rejects"] for row in rows] == counts
        page = write_page(tmp_path / "page.html", [loaded]).read_text()
        assert "3 not worded (undefined field)" in page
        assert "1 not worded (duplicate choices)" in page
        assert "one: 4 of 18 items are" in page
        assert "cases, extra: 4 of 18 items cannot be worded" in caplog.text

    def test_a_control_that_rejects_leaves_the_others_alone(self, ask, tmp_path):
        task = self.task()
        control = dataclasses.replace(self.EXTRA, kind="negated")
        without = ask([task]).summary("cases")
        report = ask([task], tmp_path, instructions=[*WORDINGS, control])
        summary = report.summary("cases")
        assert dataclasses.replace(summary, controls=(), control_checks=()) == without
        assert (summary.item_count, summary.controls[0].total) == (17, 14)
        cell = report.cells[3]
        assert summary.controls[0].value == pytest.approx(slow("accuracy", given_by(cell)))
        assert dict(summary.controls[0].rejects) == {"undefined field": 3, "duplicate choices": 1}
        assert load_reports(tmp_path)[0].cells == report.cells

    def test_a_control_without_any_common_item_is_refused_before_it_is_asked(
        self, ask, monkeypatch
    ):
        monkeypatch.setattr(Engine, "answer", lambda *_: pytest.fail("the model was asked"))
        items = [
            dataclasses.replace(item, fields=item.fields | {"ab"[n % 2]: "x"})
            for n, item in enumerate(make_task("accuracy").items)
        ]
        wording = Instruction("a", "cases", "{{ text }} {{ a }}")
        control = Instruction("b", "cases", "{{ text }} {{ b }}", kind="wrong")
        with pytest.raises(MetroFastError, match="control 'b' can word none of the items that all"):
            ask([Task("cases", "cases", tuple(items))], instructions=[wording, control])

    def test_models_with_other_rejects_are_compared_on_what_both_have(self, ask):
        task = self.task()
        wordings = [*WORDINGS[:2], self.EXTRA]
        first = ask([task], instructions=wordings)
        second = ask([task], name="two", instructions=wordings)
        compared = compare(first, second).task("cases")
        assert compared.item_count == 14
        difference = second.summary("cases").mean - first.summary("cases").mean
        assert compared.difference.mean == pytest.approx(difference)

    def test_strict(self, ask):
        with pytest.raises(RejectError, match=r"'i0'.*extra"):
            ask([self.task()], instructions=[self.EXTRA], strict=True)

    @pytest.mark.parametrize(
        ("metric", "preset", "reason"),
        [("accuracy", "generate_match", "no choices for accuracy"),
         ("token_f1", "metro_t0", "no choices to score")],
    )  # fmt: skip
    def test_items_without_choices_where_they_are_needed(self, ask, metric, preset, reason):
        task = make_task(metric)
        free = Item("free", task.items[0].fields, target="the cat")
        mixed = Task("cases", "cases", (free, *task.items), metric=metric)
        report = ask([mixed], preset=preset)
        assert [cell.rejects_by_reason for cell in report.cells] == [{reason: 1}] * 3
        assert report.summary("cases").mean == ask([task], preset=preset).summary("cases").mean
        with pytest.raises(RejectError, match=f"'free': {reason}"):
            ask([mixed], preset=preset, strict=True)
        with pytest.raises(MetroFastError, match=f"words 0 of 1; its first reason: {reason}"):
            ask([Task("cases", "cases", (free,), metric=metric)], preset=preset)

    def test_mixed_items_where_they_are_not_needed(self, ask, tmp_path):
        task, free = make_task("token_f1", 5), make_task("token_f1", 5, free=True)
        items = (*task.items, *(dataclasses.replace(i, id=f"{i.id} free") for i in free))
        mixed = Task("cases", "cases", items, metric="token_f1")
        report = ask([mixed], tmp_path, preset="generate_match", instructions=WORDINGS[:1])
        (cell,) = report.cells
        assert cell.value == pytest.approx(slow("token_f1", given_by(cell)))
        assert report.summary("cases").chance is None
        assert load_reports(tmp_path)[0].cells == report.cells


READINGS = {
    # The reading's choices, and the label in the item's terms that each of them stands for.
    "letters": (Instruction("r", "cases", "{{ text }}", choices=["A", "B", "C"]), "012"),
    "statements": (
        Instruction("r", "cases", "{{ text }}", choices=["It is one.", "It is two.", "No."]),
        "012",
    ),
    "another order": (
        Instruction(
            "r", "cases", "{{ text }}", target="{{ item_choices[2] }}",
            choices="{{ item_choices | reverse | join('|||') }}",
        ),
        "210",
    ),
}  # fmt: skip


class TestReadings:
    @pytest.mark.parametrize("name", READINGS)
    @pytest.mark.parametrize("metric", ["accuracy", "tacred_micro_f1", "exact_match"])
    def test_answers_are_in_the_terms_of_the_item(self, ask, tmp_path, metric, name):
        instruction, order = READINGS[name]
        task = make_task(metric)
        # The right choice is the item's last one, where the reading has its own target.
        items = tuple(dataclasses.replace(item, answer=2) for item in task.items)
        if instruction.target is not None:
            task = dataclasses.replace(task, items=items)
        report = ask([task], tmp_path, instructions=[instruction, WORDINGS[0]])
        cell = report.cells[0]
        pairs = [
            (item.answer_text, item.choices[int(order[outcome.prediction])])
            for item, outcome in zip(cell.items, cell.outcomes, strict=True)
        ]
        assert [(a.gold, a.given) for a in cell.answers] == pairs
        assert cell.value == pytest.approx(slow(metric, pairs))
        summary = report.summary("cases")
        other = [given for _, given in given_by(report.cells[1])]
        same = np.mean([a == b for (_, a), b in zip(pairs, other, strict=True)])
        assert summary.consistency == pytest.approx(same)
        assert load_reports(tmp_path)[0].cells == report.cells

    @pytest.mark.parametrize("metric", ["accuracy", "exact_match", "token_f1", "normalized_match"])
    def test_a_turned_question_of_two_choices(self, metric):
        items = tuple(Item(f"{n}", {"text": "x"}, ("true", "false"), n % 2) for n in range(4))
        task = Task("cases", "cases", items, metric=metric)
        turned = Instruction("turned", "cases", "false: {{ text }}?", target="false")
        # "Is it false?": the right answer of the reading is "false" for all, those of items vary.
        outcomes = [Outcome(1, (-2.0, -1.0)), Outcome(1, (-2.0, -1.0)), Outcome(0, (-1.0, -2.0)),
                    Outcome(0, (-1.0, -2.0))]  # fmt: skip
        cell = make_cell(task, turned, outcomes)
        assert [prompt.answer for prompt in cell.prompts] == [1, 1, 1, 1]
        assert [answer.gold for answer in cell.answers] == ["true", "false", "true", "false"]
        assert [answer.given for answer in cell.answers] == ["true", "false", "false", "true"]
        assert cell.value == 0.5

    def test_fewer_choices_than_the_item(self):
        task = make_task("accuracy", 6)
        items = tuple(dataclasses.replace(item, answer=0) for item in task.items)
        task = dataclasses.replace(task, items=items)
        two = Instruction("two", "cases", "{{ text }}", choices=["no", "yes"], target="yes")
        outcomes = [random_scores(2, n) for n in range(6)]
        cell = make_cell(task, two, outcomes)
        assert cell.correct == [outcome.prediction == 1 for outcome in outcomes]
        assert {a.given for a in cell.answers} == {"no", "the cat"}


class TestChecks:
    def test_lengths_and_nan(self):
        task = make_task("accuracy", 5)
        outcomes = [random_scores(3, n) for n in range(5)]
        cell = make_cell(task, WORDINGS[0], outcomes)
        for bad, message in (
            (outcomes[1:], "5 items, 5 prompts and 4 outcomes"),
            ([Outcome(0, (-1.0, -2.0)), *outcomes[1:]], "2 scores, 3 choices"),
            ([Outcome(0, (float("nan"),) * 3), *outcomes[1:]], "a score of NaN"),
            ([Outcome(1, (-1.0, -2.0, -3.0)), *outcomes[1:]], "not the first choice with the best"),
            ([Outcome(1, (-1.0, -1.0, -3.0)), *outcomes[1:]], "not the first choice with the best"),
            ([Outcome(3, None, "x"), *outcomes[1:]], "the prediction 3, 3 choices"),
            ([Outcome(-2, None, "x"), *outcomes[1:]], "the prediction -2, 3 choices"),
            ([Outcome(-1, None, "\ud800"), *outcomes[1:]], "the written answer is not valid Uni"),
        ):
            with pytest.raises(MetroFastError, match=message):
                Cell(cell.record, task, cell.rendered, tuple(bad))

    def test_items_and_prompts_are_those_of_the_record(self):
        task = make_task("accuracy", 5)
        cell = make_cell(task, WORDINGS[0], [random_scores(3, n) for n in range(5)])
        rendered = render_items(WORDINGS[1], task)
        with pytest.raises(MetroFastError, match="not those of its prompts_hash"):
            Cell(cell.record, task, rendered, cell.outcomes)
        other = dataclasses.replace(task, items=task.items[::-1])
        with pytest.raises(MetroFastError, match="not those of its items_hash"):
            Cell(cell.record, other, cell.rendered, cell.outcomes)

    def test_labels_that_the_metric_cannot_read_are_refused_before_anything_is_asked(
        self, ask, answers, monkeypatch
    ):
        monkeypatch.setattr(Engine, "answer", lambda *_: pytest.fail("the model was asked"))
        task = make_task("accuracy", 4)
        relations = dataclasses.replace(task, metric="semeval_macro_f1")
        with pytest.raises(MetroFastError, match="has no direction"):
            ask([relations])
        turned = Instruction("t", "cases", "{{ text }}", choices=["no", "yes"], target="yes")
        with pytest.raises(MetroFastError, match="label 'no' has no direction"):
            ask([make_task("semeval_macro_f1", 4)], instructions=[turned])


def test_models_after_other_worked_examples_are_not_compared(ask):
    tasks, examples = [make_task("accuracy")], make_task("accuracy", 30)
    reports = [
        ask(tasks, name=f"seed {seed}", few_shot=FewShot(examples, k=2, seed=seed))
        for seed in (0, 1)
    ]
    with pytest.raises(MetroFastError, match="'ask' is worded differently in the two, or after"):
        compare(*reports)


def test_tasks_with_other_numbers_of_worked_examples_are_one_report(ask, tmp_path):
    tasks = [make_task("accuracy"), dataclasses.replace(make_task("accuracy"), name="others")]
    examples = make_task("accuracy", 30)
    report = ask(tasks, tmp_path, few_shot={"others": FewShot(examples, k=2, seed=0)})
    assert [cell.record.shots for cell in report.cells] == [0, 0, 0, 2, 2, 2]
    record = json.loads((tmp_path / "results_one_metro_t0.json").read_text())
    assert (record["n-shot"]["cases/ask"], record["n-shot"]["others/ask"]) == (0, 2)
    assert "2 worked examples before each" in write_page(tmp_path / "p.html", [report]).read_text()
