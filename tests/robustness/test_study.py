"""Studies: planted breaks, gaps and curves are in the tables, and what is unlike is not mixed."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

import study_cases
from matrix_cases import matrix_cells, matrix_report
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.robustness import (
    TABLES,
    ModelCard,
    Report,
    Study,
    SwappedIn,
    compare,
    read_cards,
    reference_table,
    study_tables,
    write_cards,
)
from metro_fast.robustness.study.together import judge_together
from study_cases import BASE, BROKEN, FULL, LARGE, SMALL, TASKS, WORDINGS, answers, report


@pytest.fixture(scope="module")
def study():
    return study_cases.study()


@pytest.fixture(scope="module")
def tables(study):
    return study_tables(study, margin=0.02)


def rows(table, **where):
    found = [row for row in table.rows if all(row[k] == v for k, v in where.items())]
    assert found, where
    return found


class TestTables:
    def test_every_table_has_its_columns_and_its_question(self, tables):
        assert tables.keys() == TABLES.keys()
        for name, table in tables.items():
            assert table.name == name
            assert table.question.endswith("?")
            assert all(row.keys() == table.columns.keys() for row in table.rows)
            assert set(table.main) <= table.columns.keys()
            assert all(meaning.endswith(".") for meaning in table.columns.values())
            json.dumps(table.to_record(), allow_nan=False)

    def test_means_are_those_of_the_answers(self, tables):
        for row in tables["scores"].rows:
            right = answers(row["model"], row["task"])
            assert row["mean"] == pytest.approx(right.mean())
            assert row["mean_low"] < row["mean"] < row["mean_high"]
            assert row["worst_value"] == pytest.approx(right.mean(1).min())
            assert row["always_right"] == pytest.approx(right.all(0).mean())
            assert row["scaled_mean"] == pytest.approx(2 * right.mean() - 1)
        values = rows(tables["wordings"], model="full", task="relations")
        expected = answers("full", "relations").mean(1)
        assert [row["value"] for row in values] == pytest.approx(expected.tolist())
        assert [row["seen"] for row in values] == [True] * 4 + [False] * 4

    def test_the_planted_break_is_the_only_one(self, tables):
        (row,) = tables["broken"].rows
        assert (row["model"], row["task"], row["wording"]) == ("small", *BROKEN)
        assert row["difference"] == pytest.approx(-0.4, abs=0.07)
        assert row["low"] < row["difference"] < row["high"]
        tests = 4 * 2 * (WORDINGS - 1)
        assert row["study_p"] == pytest.approx(row["adjusted_p"] * tests / (WORDINGS - 1))

    def test_a_compressed_expert_against_its_base_and_its_original(self, tables):
        (row,) = rows(tables["against_original"], task="questions")
        assert (row["model"], row["reference"], row["density"]) == ("small", "full", 0.2)
        assert (row["verdict"], row["broken"], row["expert_bytes"]) == ("worse", "w2", 200)
        (row,) = rows(tables["against_original"], task="relations")
        assert row["verdict"] in ("as robust", "undecided")
        right = [answers(name, "relations").mean() for name in ("full", "small")]
        assert [row["reference_mean"], row["mean"]] == pytest.approx(right)
        base = rows(tables["against_base"], reference="base")
        assert [row["model"] for row in base] == ["full", "full", "small", "small"]
        assert all(row["mean_verdict"] == "better" for row in base)

    def test_p_is_corrected_over_all_rows(self, study, tables):
        table = tables["against_base"]
        raw = []
        for row in table.rows:
            pair = [study.of(row[key])[0] for key in ("reference", "model")]
            raw.append(compare(*(m.report for m in pair), tasks=[row["task"]]).tasks[0].p_value)
        ranked = sorted(raw)
        steps = [(len(raw) - ranked.index(p)) * p for p in ranked]
        expected = [
            min(1, max(s for s, q in zip(steps, ranked, strict=True) if q <= p)) for p in raw
        ]
        assert table.column("adjusted_p") == pytest.approx(expected)

    def test_seen_and_unseen(self, tables):
        for row in tables["seen_wordings"].rows:
            means = answers(row["model"], row["task"]).mean(1)
            assert row["gap"] == pytest.approx(means[:4].mean() - means[4:].mean())
            assert (row["seen"], row["unseen"], row["p"]) == (4, 4, None)  # below five, not a test
        assert tables["seen_kinds"].rows
        for row in tables["seen_kinds"].rows:  # each task has the same weight
            each = [answers(row["model"], task).mean(1) for task in row["tasks"].split(", ")]
            gaps = [means[:4].mean() - means[4:].mean() for means in each]
            assert row["gap"] == pytest.approx(np.mean(gaps))
        (row,) = rows(tables["seen_tasks"], model="base")
        by_task = [2 * answers("base", task).mean() - 1 for task in TASKS]
        assert row["gap"] == pytest.approx(by_task[0] - by_task[1])
        assert (row["low"], row["p"]) == (None, None)  # one task a side
        assert tables["seen_tasks"].column("model") == ["base"]
        assert any(
            note.startswith("large has seen 0 of the 2") for note in tables["seen_tasks"].notes
        )

    def test_facets_are_on_one_scale(self, tables):
        for row in tables["facets"].rows:
            assert row["scaled_mean"] == pytest.approx(
                2 * answers(row["model"], row["task_type"]).mean() - 1
            )
        (row,) = rows(tables["facet_gaps"], model="large")
        ours = [2 * answers("large", task).mean() - 1 for task in TASKS]
        assert row["gap"] == pytest.approx(ours[0] - ours[1])

    def test_a_curve_is_of_one_family_and_kind(self, tables):
        points = rows(tables["scale"], task="relations")
        assert [(row["model"], row["size"]) for row in points] == [("base", 1000), ("large", 5000)]
        small, large = points
        assert (small["smaller"], small["difference"]) == (None, None)
        assert large["smaller"] == "base"
        assert large["difference"] == pytest.approx(large["mean"] - small["mean"])
        assert large["low"] < large["difference"] < large["high"]
        assert large["adjusted_p"] < 0.01

    def test_readings_and_ranks(self, tables):
        found = Study(
            [(BASE, report("base")), (BASE, report("base", "t0")), (LARGE, report("large"))]
        )
        assert found.readings == ("metro_t0", "t0")
        (row, _) = study_tables(found, only=["readings"])["readings"].rows
        assert (row["first"], row["second"], row["agreement"]) == ("metro_t0", "t0", 1.0)
        assert row["difference"] == 0
        ranks = rows(tables["ranks"], task="relations")[0]
        assert ranks["models"].split(", ")[0] == "large"
        assert ranks["best_share"] == 1


class TestPairs:
    def test_other_items_are_a_note_and_not_a_row(self):
        full = report("full")
        other = Report(
            [*matrix_cells(answers("small", "relations")[:, :100], model="small", task="relations")]
        )
        table = reference_table(Study([(FULL, full), (SMALL, other)]), "original")
        assert table.rows == ()
        assert "items_hash differs" in table.notes[0]
        alone = reference_table(Study([(SMALL, report("small"))]), "base")
        assert alone.rows == ()
        assert alone.notes == ("small: its base base is not in the study.",)

    def test_several_comparisons_need_more_than_one(self):
        """Twenty pairs of equal models: alone some are worse, together none is."""
        compared = []
        for seed in range(20):
            draw = np.random.default_rng(seed)
            first, second = draw.random((2, 3, 120)) < 0.7
            pair = matrix_report(first, model="a"), matrix_report(second, model="bb")
            compared += compare(*pair).tasks
        assert any(task.verdicts.mean in ("worse", "better") for task in compared)
        together = judge_together(compared)
        assert all(each.verdicts.mean == "undecided" for each in together)
        assert all(each.adjusted_p >= each.task.p_value for each in together)
        (alone,) = judge_together(compared[:1])
        assert alone.verdicts == compared[0].verdicts

    @pytest.mark.parametrize("margin", [0, 1, -0.1, float("nan")])
    def test_margins_out_of_range(self, study, margin):
        with pytest.raises(MetroFastError, match=r"margin is .*, expected a share between 0 and 1"):
            reference_table(study, "base", margin=margin)
        with pytest.raises(MetroFastError, match="reference is 'x'; give base or original"):
            reference_table(study, "x")


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"name": " "}, MetroFastError, "the model's name is empty"),
            ({"name": 3}, TypeError, "the model's name is 3; give a string"),
            ({"kind": "big"}, MetroFastError, "kind is 'big'; give one of base, expert"),
            ({"size": 0}, MetroFastError, "size is 0, expected at least 1"),
            ({"size": True}, TypeError, "size is True; give a whole number"),
            ({"seen_tasks": "qa"}, TypeError, "seen_tasks is 'qa'; give a sequence"),
            ({"base": "m"}, MetroFastError, "names itself as its base"),
            ({"kind": "base", "base": "b"}, MetroFastError, "the kind base, which has no base"),
            ({"expert": "lora"}, TypeError, "expert is 'lora'; give a SwappedIn"),
        ],
    )
    def test_cards(self, changes, error, message):
        with pytest.raises(error, match=message):
            ModelCard(**{"name": "m", "family": "t5"} | changes)

    @pytest.mark.parametrize(
        ("values", "error", "message"),
        [
            (("e", 0), MetroFastError, "size_bytes is 0"),
            (("e", 10, 1.5), MetroFastError, "density is 1.5, expected a share"),
            (("e", 10, float("nan")), MetroFastError, "density is nan"),
            (("e", 10, "half"), TypeError, "density is 'half'; give a number"),
            (("", 10), MetroFastError, "the expert's source is empty"),
        ],
    )
    def test_experts(self, values, error, message):
        with pytest.raises(error, match=message):
            SwappedIn(*values)

    def test_reports_that_could_not_be_distinguished(self):
        base, other = report("base"), report("full").renamed("base")
        with pytest.raises(MetroFastError, match="reports is empty"):
            Study([])
        with pytest.raises(MetroFastError, match=r"two models are called 'base' .*a name of"):
            Study([(BASE, base), (BASE, other)])
        with pytest.raises(MetroFastError, match="is given twice: leave one out"):
            Study([(BASE, base), (BASE, base)])
        changed = dataclasses.replace(BASE, size=7)
        with pytest.raises(MetroFastError, match="'base' has two different cards"):
            Study([(BASE, base), (changed, report("base", "t0"))])
        with pytest.raises(MetroFastError, match="no model is called 'x', only base"):
            Study([(BASE, base)]).card("x")


class TestFolders:
    def test_a_folder_is_its_study(self, tmp_path, study, tables):
        for member in study.members:
            member.report.save(tmp_path)
        found = {(m.card.name, m.report.model_hash): m.card for m in study.members}
        write_cards(tmp_path, found)
        loaded = Study.load(tmp_path)
        assert set(loaded.cards) == {BASE, FULL, SMALL, LARGE}
        again = study_tables(loaded, margin=0.02)
        for name in ("against_original", "broken", "scale"):
            assert sorted(map(str, again[name].rows)) == sorted(map(str, tables[name].rows))

    def test_cards_are_added_and_replaced(self, tmp_path):
        write_cards(tmp_path, {("base", "h1"): BASE})
        write_cards(tmp_path, {("full", "h2"): FULL, ("base", "h3"): BASE})
        changed = dataclasses.replace(BASE, size=7)
        write_cards(tmp_path, {("base", "h1"): changed})
        assert read_cards(tmp_path) == {
            ("base", "h1"): changed, ("full", "h2"): FULL, ("base", "h3"): BASE
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "JSON"),
            ("[]", "does not hold cards"),
            ('{"format": "x", "models": []}', "has the format 'x', expected"),
            ('{"format": "metro_fast.model_cards/1", "models": [{}]}', "does not hold cards"),
            (
                '{"format": "metro_fast.model_cards/1", "models": [{"model_hash": "h", "card": '
                '{"name": "a", "family": "b", "size": -1}}]}',
                "size is -1",
            ),
        ],
    )
    def test_damaged_cards(self, tmp_path, text, message):
        report("base", tasks=TASKS[:1]).save(tmp_path)
        (tmp_path / "model_cards.json").write_text(text)
        with pytest.raises(FormatError, match=message):
            Study.load(tmp_path)

    def test_models_of_one_name_in_two_folders(self, tmp_path):
        for place, name in (("one", "base"), ("two", "full")):
            report(name, tasks=TASKS[:1]).renamed("main").save(tmp_path / place)
        found = Study.load(tmp_path / "one", tmp_path / "two")
        assert [card.name for card in found.cards] == ["main (base0000)", "main (full0000)"]
        assert {card.kind for card in found.cards} == {"other"}
        report("small", tasks=TASKS[:1]).save(tmp_path / "two")
        cards = [ModelCard("small", "t5", base="main")]
        with pytest.raises(MetroFastError, match="names 'main', which several models are called"):
            Study.load(tmp_path / "one", tmp_path / "two", cards=cards)

    def test_nothing_to_read(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="has no results_"):
            Study.load(tmp_path)
        with pytest.raises(MetroFastError, match="no folder is given"):
            Study.load()
        report("base", tasks=TASKS[:1]).save(tmp_path)
        with pytest.raises(MetroFastError, match="card 'x' is of no model there; the models are"):
            Study.load(tmp_path, cards=[ModelCard("x", "t5")])

    def test_tables_are_made_without_torch(self, tmp_path):
        report("base", tasks=TASKS[:1]).save(tmp_path)
        code = (
            "import sys\n"
            "class Block:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name.partition('.')[0] in ('torch', 'transformers', 'peft'):\n"
            "            raise ModuleNotFoundError(f'No module {name}', name=name)\n"
            "sys.meta_path.insert(0, Block())\n"
            "from metro_fast.robustness import Study, study_tables, recompute, write_page\n"
            f"tables = study_tables(Study.load({str(tmp_path)!r}))\n"
            f"write_page({str(tmp_path / 'page.html')!r}, recompute({str(tmp_path)!r}))\n"
            "print(len(tables['scores']))\n"
            "import metro_fast\n"
            "try: metro_fast.robustness.evaluate\n"
            "except metro_fast.MissingExtraError as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.splitlines() == [
            "1", "torch is not installed. Install it with: pip install 'metro_fast[eval]'"
        ], done.stderr  # fmt: skip
