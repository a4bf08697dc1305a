"""`pretrain` end to end on a small corpus: its files, resuming, extending."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, T5ForConditionalGeneration

from log_lines import untimed
from metro_fast._training.callbacks import EpochCallback
from metro_fast._training.checkpoints import latest_checkpoint
from metro_fast.data import DataCollatorForSpanCorruption, TokenCorpus
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.metro import MetroForPretraining, PretrainConfig, pretrain
from metro_fast.metro.held_out import RowSelection
from metro_fast.metro.pretraining_model import make_model
from pretrain_cases import baseline, changed, history, rule_corpus, small_run


@pytest.fixture
def settings(tiny_tokenizer: Any, tmp_path: Path) -> dict[str, Any]:
    return small_run(tmp_path, tiny_tokenizer)


@pytest.mark.parametrize("objective", ["metro", "span"])
def test_it_learns_and_leaves_models_that_load(objective: str, settings: dict[str, Any]) -> None:
    settings = settings if objective == "metro" else baseline(settings, objective)
    changes = {"max_steps": 60, "logging_steps": 10, "eval_steps": 30}
    out = pretrain(changed(settings, {f"training.{name}": n for name, n in changes.items()}))
    lines = history(out)
    losses = [line["loss"] for line in lines if "loss" in line]
    evaluations = [line for line in lines if "eval_loss" in line]
    assert losses[-1] < 0.9 * losses[0]
    assert [line["step"] for line in evaluations] == [30, 60]
    plain = AutoModelForSeq2SeqLM.from_pretrained(out / "main")
    assert type(plain) is T5ForConditionalGeneration
    assert len(AutoTokenizer.from_pretrained(out / "main")) == plain.config.vocab_size
    resolved = yaml.safe_load((out / "resolved_config.yaml").read_text())
    assert resolved["training"]["max_steps"] == 60
    assert PretrainConfig(**resolved).resolved()["training"] == resolved["training"]
    if objective == "metro":
        model = MetroForPretraining.from_pretrained(out)
        assert torch.equal(model.main.shared.weight, plain.shared.weight)
        assert {"eval_rtd_auc", "eval_aux_accuracy", "eval_replace_ratio"} <= set(evaluations[0])
        strip = (out / "strip.html").read_text()
        assert strip.index("Rows after 60 steps") < strip.index("Rows after 30 steps")
        assert strip.count("<h3>Row ") == 4
    else:
        assert "eval_token_accuracy" in evaluations[0]
        assert not (out / "model.safetensors").exists()
        assert not (out / "strip.html").exists()


@pytest.mark.parametrize("objective", ["metro", "span"])
def test_interrupted_and_resumed_is_bit_equal(
    objective: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings if objective == "metro" else baseline(settings, objective)
    unbroken = pretrain(PretrainConfig(**settings))
    settings["output"] = tmp_path / "broken"

    def interrupt(self: Any, args: Any, state: Any, control: Any, **kw: Any) -> None:
        if state.global_step == 2:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(EpochCallback, "on_step_begin", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pretrain(PretrainConfig(**settings))
    assert latest_checkpoint(tmp_path / "broken" / "checkpoints").name == "checkpoint-3"
    assert not (tmp_path / "broken" / "main").exists()
    with pytest.raises(MetroFastError, match="holds a run already"):
        pretrain(PretrainConfig(**settings))
    with pytest.raises(MetroFastError, match=r"model\.d_ff: 32 before, 64 now"):
        pretrain(changed(settings, {"model.d_ff": 64, "resume": True}))
    resumed = pretrain(PretrainConfig(**settings, resume=True, num_threads=1))
    runs = [AutoModelForSeq2SeqLM.from_pretrained(run / "main") for run in (unbroken, resumed)]
    before, after = (run.state_dict() for run in runs)
    assert all(torch.equal(before[name], after[name]) for name in before)
    lines = [untimed(history(run)) for run in (unbroken, resumed)]
    assert lines[0] == lines[1]

    steps = [line["step"] for line in history(resumed)]
    pretrain(PretrainConfig(**settings, resume=True))  # the run is finished already
    assert [line["step"] for line in history(resumed)] == steps
    again = AutoModelForSeq2SeqLM.from_pretrained(resumed / "main").state_dict()
    assert all(torch.equal(before[name], again[name]) for name in before)


def test_a_run_can_be_made_longer_with_other_reports(settings: dict[str, Any]) -> None:
    """With a constant rate, six steps and four more are the same as ten at once."""
    constant = {"training.lr_scheduler_type": "constant", "training.max_steps": 10}
    whole = pretrain(changed(settings, {**constant, "output": settings["output"] / "whole"}))
    short = changed(settings, {**constant, "training.max_steps": 6})
    out = pretrain(short)
    ended = history(out)
    longer = {
        "training.logging_steps": 2,
        "training.save_steps": 5,
        "training.eval_steps": 5,
        "training.per_device_eval_batch_size": 4,
        "training.report_to": "none",
        "data.num_workers": 1,
        "resume": True,
    }
    pretrain(changed(settings, {**constant, **longer}))
    ends = [AutoModelForSeq2SeqLM.from_pretrained(run / "main") for run in (whole, out)]
    before, after = (end.state_dict() for end in ends)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [line["step"] for line in history(out) if "loss" in line] == [4, 8, 10]
    # The evaluation that ended the shorter run is in no checkpoint, and stays in the file.
    evaluations = [line for line in history(out) if "eval_loss" in line]
    assert [line["step"] for line in evaluations] == [6, 10]
    assert evaluations[0] in ended


def test_a_run_without_evaluation(settings: dict[str, Any]) -> None:
    without = {"data.evaluation_rows": 0, "training.max_steps": 2}
    with pytest.raises(MetroFastError, match=r"training\.eval_steps is given, but .*rows is 0"):
        changed(settings, {**without, "training.eval_steps": 1})
    # A recipe may have an interval, which this makes void.
    none = {"training.eval_steps": 1, "training.eval_strategy": "no"}
    out = pretrain(changed(settings, {**without, **none}))
    assert not any("eval_loss" in line for line in history(out))


def test_evaluation_rows_may_be_another_corpus(
    settings: dict[str, Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """The logged loss is that of the saved model on the rows of the other corpus."""
    other = rule_corpus(tmp_path / "other", tiny_tokenizer, documents=4, seed=1)
    change = {"data.evaluation_corpus": other, "data.evaluation_rows": 100}
    out = pretrain(changed(baseline(settings, "span"), change))
    rows = TokenCorpus(other, block_size=16)
    batch = DataCollatorForSpanCorruption(tiny_tokenizer)([rows[i] for i in range(len(rows))])
    model = AutoModelForSeq2SeqLM.from_pretrained(out / "main").eval()
    names = ("input_ids", "attention_mask", "labels")
    with torch.no_grad():
        expected = model(**{name: batch[name] for name in names}).loss
    assert history(out)[-1]["eval_loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("objective", ["metro", "span"])
def test_attention_is_a_setting(
    objective: str, settings: dict[str, Any], tiny_tokenizer: Any
) -> None:
    settings = settings if objective == "metro" else baseline(settings, objective)
    for name in ("eager", "sdpa"):
        model = make_model(changed(settings, {"model.attn_implementation": name}), tiny_tokenizer)
        stacks = [part for part in model.modules() if hasattr(part, "block")]
        assert len(stacks) == (3 if objective == "metro" else 2)
        assert {stack.config._attn_implementation for stack in stacks} == {name}
    with pytest.raises(FormatError, match="quick"):
        pretrain(changed(settings, {"model.attn_implementation": "quick"}))


def test_workers_change_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    lines = []
    for workers in (0, 2):
        changes = {"data.num_workers": workers, "training.max_steps": 16}
        lines.append(
            history(pretrain(changed(settings, {**changes, "output": tmp_path / str(workers)})))
        )
    losses = [[x["loss"] for x in run if "loss" in x] for run in lines]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("size", "count"), [(2, 1), (10, 3), (100, 99), (1000, 128)])
def test_the_parts_of_a_corpus_are_a_partition(size: int, count: int) -> None:
    rows = np.arange(size)
    held_out = RowSelection(rows, count, held_out=True)
    training = RowSelection(rows, count, held_out=False)
    parts = [[int(part[i]) for i in range(len(part))] for part in (held_out, training)]
    assert sorted(parts[0] + parts[1]) == list(range(size))
    assert [len(part) for part in parts] == [count, size - count]
    assert training.__getitems__(range(len(training))) == parts[1]
    with pytest.raises(IndexError, match=f"row {count} of {count}"):
        held_out[count]


def test_the_released_architecture_trains_from_settings(settings: dict[str, Any]) -> None:
    kind = {"model.type": "metro_t0", "auxiliary.embedding_sharing": "token_pos_norm"}
    out = pretrain(changed(settings, {**kind, "training.max_steps": 2}))
    model = MetroForPretraining.from_pretrained(out)
    assert model.config.main.decoder_start_token_id == 4  # <extra_id_0>
    assert AutoModelForSeq2SeqLM.from_pretrained(out / "main").config.model_type == "metro_t0"
