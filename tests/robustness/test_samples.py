"""Our answers as lm-eval's samples files, read back and loaded as lm-eval loads them."""

import json

import pytest

from cell_cases import WORDINGS, make_cell, make_task, random_scores, written
from metro_fast.prompts import Instruction, Item, Task, render_items
from metro_fast.robustness import Report, read_lm_eval_samples, write_samples

DATE = 1_767_323_045.25
# lm-eval 0.4.13, evaluator.py:645-667 and loggers/evaluation_tracker.py:349-373.
KEYS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics",
    "doc_hash", "prompt_hash", "target_hash",
}  # fmt: skip


def scored_report(metric: str = "accuracy") -> Report:
    task = make_task(metric)
    cells = [
        make_cell(task, w, [random_scores(len(i.choices), (w.id, i.id)) for i in task])
        for w in WORDINGS
    ]
    return Report(cells, date=DATE)


def written_report(metric: str, *, free: bool) -> Report:
    task = make_task(metric, free=free)
    cells = [
        make_cell(
            task, w, written(render_items(w, task).prompts, w.id), preset="generate_match"
        )
        for w in WORDINGS
    ]  # fmt: skip
    return Report(cells, date=DATE)


def lines_of(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("metric", ["accuracy", "semeval_macro_f1", "exact_match"])
def test_scores_survive_the_way_there_and_back(tmp_path, metric):
    report = scored_report(metric)
    paths = write_samples(report, tmp_path)
    assert len({*paths}) == len(report.cells) == len(list(tmp_path.iterdir()))
    for cell, path in zip(report.cells, paths, strict=True):
        found = read_lm_eval_samples(path, model_name="tiny", task="cases")
        assert (found.report.taken, found.report.rejects) == (len(cell.items), ())
        back = found.cell.to_cell(instruction=cell.record.instruction, metric=metric)
        assert back.outcomes == cell.outcomes
        assert [item.fields["id"] for item in back.items] == [item.id for item in cell.items]
        assert [item.choices for item in back.items] == [p.choices for p in cell.prompts]
        assert [p.input for p in back.prompts] == [p.input for p in cell.prompts]
        assert back.value == cell.value
        assert (back.correct, back.ties) == (cell.correct, cell.ties)


@pytest.mark.parametrize("metric", ["exact_match", "normalized_match", "token_f1"])
def test_written_answers_survive_the_way_there_and_back(tmp_path, metric):
    report = written_report(metric, free=True)
    for cell, path in zip(report.cells, write_samples(report, tmp_path), strict=True):
        found = read_lm_eval_samples(path, model_name="tiny", task="cases")
        assert found.report.taken == len(cell.items)
        back = found.cell.to_cell(metric=metric)
        assert [o.text for o in back.outcomes] == [o.text for o in cell.outcomes]
        assert [item.target for item in back.items] == [item.target for item in cell.items]
        assert back.value == cell.value > 0
        line = lines_of(path)[0]
        key = "f1" if metric == "token_f1" else metric
        assert line["metrics"] == [key]
        mean = sum(line[key] for line in lines_of(path)) / len(cell.items)
        assert mean == pytest.approx(cell.value)
        assert line["arguments"]["gen_args_0"]["arg_1"] == {
            "until": [], "max_gen_toks": 32, "do_sample": False,
        }  # fmt: skip


def test_lines_have_the_shape_of_lm_eval(tmp_path):
    report = scored_report()
    path = write_samples(report, tmp_path)[1]
    cell = report.cells[1]
    for number, line in enumerate(lines_of(path)):
        assert line.keys() == KEYS | {"acc"}
        assert line["doc_id"] == number
        assert line["target"] == str(cell.prompts[number].answer)
        assert line["filtered_resps"] == [pair for (pair,) in line["resps"]]
        assert [float(score) for score, _ in line["filtered_resps"]] == [
            *cell.outcomes[number].scores
        ]
        assert [a["arg_1"] for a in line["arguments"].values()] == [
            f" {choice}" for choice in cell.prompts[number].choices
        ]
        assert line["acc"] == float(cell.correct[number])


def test_a_rejected_item_keeps_the_places_of_the_others(tmp_path):
    good = [Item(f"i{n}", {"text": "a", "extra": "b"}, ("yes", "no"), n % 2) for n in range(3)]
    bad = Item("bad", {"text": "a"}, ("yes", "no"), 0)
    task = Task("cases", "cases", (good[0], bad, *good[1:]))
    wording = Instruction("extra", "cases", "{{ text }} {{ extra }}")
    cell = make_cell(task, wording, [random_scores(2, n) for n in range(3)])
    (path,) = write_samples(Report([cell]), tmp_path)
    assert [line["doc_id"] for line in lines_of(path)] == [0, 2, 3]


def test_texts_and_extreme_scores_survive(tmp_path):
    strange = "a\nb\u2028c\x85d\t\N{GRINNING FACE}"
    task = Task("cases", "cases", (Item("1", {"text": strange}, ("yes", "no"), 1),))
    outcome = random_scores(2, 0, wide=True)
    outcome = type(outcome)(0, (outcome.scores[0], float("-inf")))
    cell = make_cell(task, Instruction("plain", "cases", "{{ text }}"), [outcome])
    (path,) = write_samples(Report([cell]), tmp_path)
    back = read_lm_eval_samples(path, model_name="tiny").cell
    assert back.outcomes == (outcome,)
    assert back.inputs == (strange,)


def test_the_input_has_the_text_of_the_wrapper(tiny_t5, tiny_tokenizer, tmp_path):
    from metro_fast.robustness import evaluate

    report = evaluate(
        tiny_t5, tiny_tokenizer, [make_task("accuracy")], WORDINGS[:1], model_name="tiny",
        model_family="t5", wrapper="vicuna", progress=False,
    )  # fmt: skip
    (path,) = write_samples(report, tmp_path)
    text = lines_of(path)[0]["arguments"]["gen_args_0"]["arg_0"]
    assert text.startswith("A chat between a curious user")
    assert text.endswith(" ASSISTANT:")
    assert report.cells[0].prompts[0].input in text


def test_the_library_that_lm_eval_loads_them_with(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for report in (scored_report(), written_report("token_f1", free=False)):
        for cell, path in zip(report.cells, write_samples(report, tmp_path), strict=True):
            rows = datasets.load_dataset(
                "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
            )
            assert len(rows) == len(cell.items)
            assert [row["doc"]["id"] for row in rows] == [item.id for item in cell.items]


def test_lm_eval_reads_the_names(tmp_path):
    utils = pytest.importorskip("lm_eval.utils", reason="lm_eval is not installed")
    paths = write_samples(scored_report(), tmp_path)
    names = utils.get_sample_results_filenames([str(path) for path in paths])
    assert len(names) == len(paths)
    for name in names:
        assert utils.get_file_datetime(name) == "2026-01-02T03-04-05.250000"
    assert len({utils.get_file_task_name(path.name) for path in paths}) == len(paths)
