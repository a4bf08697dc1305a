"""The samples of lm-eval, read into cells."""

import json

import pytest

from metro_fast.errors import FormatError, MetroFastError
from metro_fast.robustness import Report, read_lm_eval_samples


def ranked(number=0, scores=(-3.0, -1.5), target="1", acc=1.0, **changes):
    """One line as lm-eval 0.4.13 writes it (loggers/evaluation_tracker.py)."""
    pairs = [[str(score), "False"] for score in scores]
    return {
        "doc_id": number, "doc": {"q": f"Is {number} odd?", "parts": [1, None]}, "target": target,
        "arguments": {
            f"gen_args_{k}": {"arg_0": f"Is {number} odd?\nAnswer:", "arg_1": f" {text}"}
            for k, text in enumerate(("no", "yes"))
        },
        "resps": [[pair] for pair in pairs], "filtered_resps": pairs, "filter": "none",
        "metrics": ["acc"], "acc": acc,
    } | changes  # fmt: skip


def written(number=0, text="7", **changes):
    return {
        "doc_id": number, "doc": {"q": "3 + 4"}, "target": "7",
        "arguments": {"gen_args_0": {"arg_0": "3 + 4 =", "arg_1": {"until": ["\n"]}}},
        "resps": [[text]], "filtered_resps": [text], "filter": "none",
        "metrics": ["exact_match"], "exact_match": float(text == "7"),
    } | changes  # fmt: skip


def save(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


class TestLmEval:
    def test_choices_become_a_cell(self, tmp_path):
        name = "samples_odd_2026-01-02T03-04-05.123456.jsonl"
        lines = [ranked(0), ranked(1, (-1.0, -1.5), "no", 1.0), ranked(2, (-1.0, -1.5), acc=0.0)]
        found = read_lm_eval_samples(save(tmp_path / name, lines), model_name="base")
        assert str(found.report).endswith("3 of 3 taken")
        cell = found.cell.to_cell()
        assert (cell.record.task, cell.record.preset, cell.record.model_name) == (
            "odd", "lm-eval", "base",
        )  # fmt: skip
        scores = [outcome.scores for outcome in cell.outcomes]
        assert scores == [(-3.0, -1.5), (-1.0, -1.5), (-1.0, -1.5)]
        assert [item.answer for item in cell.items] == [1, 0, 1]
        assert cell.items[0].choices == ("no", "yes")
        assert cell.items[0].fields == {"q": "Is 0 odd?", "parts": [1, None]}
        assert cell.prompts[2].input == "Is 2 odd?\nAnswer:"
        assert cell.correct == [True, True, False]

    def test_two_wordings_are_instructions_of_one_task(self, tmp_path):
        cells = []
        for style in ("a", "b"):
            path = save(tmp_path / f"samples_odd_{style}.jsonl", [ranked(n) for n in range(4)])
            found = read_lm_eval_samples(path, model_name="base")
            cells.append(found.cell.to_cell(task="odd", task_type="parity"))
        report = Report(cells)
        assert report.tasks == ("odd",)
        assert report.summary("odd").mean == 1.0
        report.save(tmp_path / "report")
        assert Report.load(tmp_path / "report").cells == report.cells

    def test_rejects_are_counted(self, tmp_path):
        apart = ranked(4)
        apart["arguments"]["gen_args_1"]["arg_0"] = "Another input"
        lines = [
            ranked(0), ranked(0), ranked(1, acc=0.0), ranked(2, target="[0, 1]"),
            ranked(3, target="maybe"), apart, ranked(5, ("nan", -1.0)), ranked(6, (-1.0,)), 7,
            ranked(8, filtered_resps=[["x"], []]), ranked(9, doc=None), ranked(10, arguments={}),
        ]  # fmt: skip
        found = read_lm_eval_samples(save(tmp_path / "samples_odd.jsonl", lines), model_name="m")
        assert found.report.taken == 1
        assert found.report.by_reason == {
            "no score": 2, "id given twice": 1, "another verdict": 1, "several answers": 1,
            "no answer among the choices": 1, "several inputs": 1, "unequal counts": 1,
            "not an object": 1, "no doc": 1, "no arguments": 1,
        }  # fmt: skip
        with pytest.raises(FormatError, match=r"1 of 12 taken .* the first is line 2"):
            found.report.check()

    def test_written_answers_and_filters(self, tmp_path):
        lines = [written(0), written(0, "8", filter="strict"), written(1, "9")]
        path = save(tmp_path / "samples_sums.jsonl", lines)
        found = read_lm_eval_samples(path, model_name="m").cell
        assert [outcome.text for outcome in found.outcomes] == ["7", "9"]
        assert found.correct == (True, False)
        assert found.items[0].target == "7"
        strict = read_lm_eval_samples(path, model_name="m", filter_name="strict").cell
        assert [outcome.text for outcome in strict.outcomes] == ["8"]
        cell = found.to_cell()
        assert (cell.record.metric, cell.value) == ("exact_match", 0.5)
        with pytest.raises(MetroFastError, match="2 of 2 items of sums have no choices, which"):
            found.to_cell(metric="accuracy")

    @pytest.mark.parametrize("content", [b"{", b"\xff\n", b"[" * 100_000, b"", b"[]\n", b"{}\n"])
    def test_hostile_files(self, tmp_path, content):
        path = tmp_path / "samples_x.jsonl"
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"samples_x\.jsonl"):
            read_lm_eval_samples(path, model_name="m")

    def test_lm_eval_s_own_file(self, tmp_path, tiny_t5, tiny_tokenizer, monkeypatch):
        """A run of lm-eval through our engine, its own writer, and back into a cell."""
        lm_eval = pytest.importorskip("lm_eval", reason="lm_eval is not installed")
        tracking = pytest.importorskip("lm_eval.loggers.evaluation_tracker")
        from metro_fast.scoring.lm_eval_model import MetroFastLM

        monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)
        rows = [{"q": f"the capital of {w} is", "gold": n % 3}
                for n, w in enumerate(["norway", "france", "italy", "peru", "chad"])]  # fmt: skip
        task = {
            "task": "capitals", "output_type": "multiple_choice", "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(save(tmp_path / "rows.jsonl", rows))}},
            "test_split": "test", "doc_to_text": "{{q}}", "doc_to_target": "gold",
            "doc_to_choice": ["the river", "a city", "no"],
        }  # fmt: skip
        ran = lm_eval.simple_evaluate(
            MetroFastLM(tiny_t5, tokenizer=tiny_tokenizer),
            tasks=[task],
            bootstrap_iters=0,
            task_manager=lm_eval.tasks.TaskManager(include_defaults=False),
        )
        tracker = tracking.EvaluationTracker(output_path=str(tmp_path / "out"))
        tracker.general_config_tracker.model_name_sanitized = "tiny"
        tracker.date_id = "2026-01-02T03-04-05.123456"
        tracker.save_results_samples("capitals", ran["samples"]["capitals"])
        (path,) = (tmp_path / "out").rglob("samples_*.jsonl")
        found = read_lm_eval_samples(path, model_name="tiny")
        assert (found.report.taken, found.report.rejects) == (5, ())
        assert found.cell.to_cell().value == ran["results"]["capitals"]["acc,none"]
        assert found.cell.task == "capitals"
