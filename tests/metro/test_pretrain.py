"""`pretrain` end to end on a small corpus: its files, resuming, and its refusals."""

import json
import random
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
from metro_fast.data import write_corpus
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.metro import MetroForPretraining, PretrainConfig, pretrain
from metro_fast.metro.held_out import RowSelection


@pytest.fixture
def settings(tiny_tokenizer: Any, tmp_path: Path) -> dict[str, Any]:
    """A corpus of 60 rows of 16 tokens, in which words follow one another by a rule."""
    draw, size = random.Random(0), len(tiny_tokenizer)
    documents = []
    for _ in range(30):
        word = draw.randrange(20, size)
        document = []
        for _ in range(31):
            document.append(word)
            word = 20 + (word - 20 + 1) % (size - 20) if draw.random() < 0.8 else 25
        documents.append([*document, 1])
    write_corpus(tmp_path / "corpus", documents)
    tiny_tokenizer.save_pretrained(tmp_path / "corpus" / "tokenizer")
    return {
        "corpus": tmp_path / "corpus",
        "output": tmp_path / "out",
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 1,
        "num_decoder_layers": 1,
        "num_heads": 2,
        "auxiliary_num_layers": 1,
        "block_size": 16,
        "steps": 6,
        "batch_size": 8,
        "warmup_steps": 2,
        "learning_rate": 3e-3,
        "evaluation_rows": 8,
        "logging_steps": 4,
        "save_steps": 2,
    }


def history(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("objective", ["metro", "span"])
def test_it_learns_and_leaves_models_that_load(objective: str, settings: dict[str, Any]) -> None:
    changes = {"steps": 60, "logging_steps": 10, "evaluation_steps": 30, "objective": objective}
    out = pretrain(PretrainConfig(**{**settings, **changes}))
    lines = history(out)
    losses = [line["loss"] for line in lines if "loss" in line]
    evaluations = [line for line in lines if "eval_loss" in line]
    assert losses[-1] < 0.9 * losses[0]
    assert [line["step"] for line in evaluations] == [30, 60]
    plain = AutoModelForSeq2SeqLM.from_pretrained(out / "main")
    assert type(plain) is T5ForConditionalGeneration
    assert len(AutoTokenizer.from_pretrained(out / "main")) == plain.config.vocab_size
    assert yaml.safe_load((out / "resolved_config.yaml").read_text())["steps"] == 60
    if objective == "metro":
        model = MetroForPretraining.from_pretrained(out)
        assert torch.equal(model.main.shared.weight, plain.shared.weight)
        assert {"eval_rtd_auc", "eval_aux_accuracy", "eval_replace_ratio"} <= set(evaluations[0])
    else:
        assert "eval_token_accuracy" in evaluations[0]
        assert not (out / "model.safetensors").exists()


@pytest.mark.parametrize("objective", ["metro", "span"])
def test_interrupted_and_resumed_is_bit_equal(
    objective: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings["objective"] = objective
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
    with pytest.raises(MetroFastError, match="d_ff: 32 before, 64 now"):
        pretrain(PretrainConfig(**{**settings, "d_ff": 64, "resume": True}))
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


def test_workers_change_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    lines = []
    for workers in (0, 2):
        changes = {"num_workers": workers, "output": tmp_path / str(workers), "steps": 16}
        lines.append(history(pretrain(PretrainConfig(**{**settings, **changes}))))
    losses = [[x["loss"] for x in run if "loss" in x] for run in lines]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"corpus": Path("nowhere")}, FileNotFoundError, "nowhere"),
        ({"tokenizer": Path("nowhere")}, FileNotFoundError, "nowhere"),
        ({"evaluation_rows": 60}, MetroFastError, "has 60 rows, and 60 are to be held out"),
        ({"objective": "ul2"}, MetroFastError, "objective is 'ul2', expected metro or span"),
        ({"embedding_sharing": "some"}, MetroFastError, "embedding_sharing is 'some'"),
        ({"rtd_head": "cls"}, MetroFastError, "rtd_head is 'cls'"),
        ({"steps": 0}, MetroFastError, "steps is 0"),
        ({"block_size": 4}, MetroFastError, "block_size is 4"),
        ({"learning_rate": float("nan")}, MetroFastError, "learning_rate is nan"),
        ({"mask_probability": 1.0}, MetroFastError, "mask_probability is 1.0"),
        ({"num_threads": -1}, MetroFastError, "num_threads is -1"),
        ({"seed": 2**32}, MetroFastError, "seed is"),
    ],
)
def test_it_refuses_before_any_work(
    changes: dict[str, Any], error: type[Exception], match: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(error, match=match):
        pretrain(PretrainConfig(**{**settings, **changes}))
    assert not settings["output"].exists()


def test_a_corpus_of_another_tokenizer_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_corpus(other, [[5, 6, 20_000, 1] * 100])
    settings["tokenizer"] = settings["corpus"] / "tokenizer"
    with pytest.raises(FormatError, match="made with another tokenizer"):
        pretrain(PretrainConfig(**{**settings, "corpus": other}))


def test_an_unwritable_output_is_an_os_error(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        pretrain(PretrainConfig(**{**settings, "output": tmp_path / "file" / "out"}))


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
