"""The lines of a run against the history, its operations against torch's own counter."""

import io
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from transformers import T5Config, T5ForConditionalGeneration

from metro_cases import LENGTHS, MAIN, MetroCollator, Rows, SpanCollator, arguments, metro_model
from metro_fast._training import pace
from metro_fast._training.device_peak import Peak
from metro_fast._training.flops import Seq2SeqFlops
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroConfig, MetroForPretraining, MetroTrainer
from metro_fast.metro.flops import MetroFlops
from metro_fast.metro.objectives import MetroObjective
from metro_t0_cases import metro_t0

TOKENS = sum(LENGTHS)


def metro_run(folder: Path, model: Any = None, **options: Any) -> MetroTrainer:
    options = {"per_device_train_batch_size": 4, "max_steps": 4, "logging_steps": 2, **options}
    return MetroTrainer(
        metro_model() if model is None else model,
        arguments(folder, **options),
        train_dataset=Rows(),
        eval_dataset=Rows(LENGTHS[:5], seed=1),
        data_collator=MetroCollator(),
    )


def numbers(text: str) -> dict[str, float]:
    """The figures of a plain line by their names; a loss also has its bits."""
    found = {}
    for part in text.split("  ")[1:]:
        name, _, value = part.rpartition(" ")
        first, _, bits = value.partition("/")
        if re.fullmatch(r"[\d.e+,-]+%?", first):
            found[name] = float(first.rstrip("%").replace(",", ""))
        if bits:
            found[f"{name} bits"] = float(bits)
    return found


def test_lines_say_what_the_history_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = metro_run(tmp_path, eval_strategy="steps", eval_steps=4)
    trainer.train()
    first, *lines, last = capsys.readouterr().err.splitlines()
    total, main = (
        sum(p.numel() for p in m.parameters()) for m in (trainer.model, trainer.model.main)
    )
    assert first.startswith(
        f"MetroForPretraining, {total:,} parameters, {main:,} of them in main; 8 rows, 4 rows and "
        f"{sum(LENGTHS[:4])} tokens a step; cpu with "
    )
    assert "steps 1 to 4" in first
    assert last.startswith(f"4 steps, {2 * TOKENS} tokens, ")
    history = [x for x in trainer.state.log_history if "loss" in x or "eval_loss" in x]
    assert [line.split("  ")[0] for line in lines[:3]] == ["step 2/4", "step 4/4", "eval at step 4"]
    for text, line in zip(lines, history, strict=False):
        shown, prefix = numbers(text), "eval_" if "eval_loss" in line else ""
        for name in ("mlm", "lm", "rtd"):
            nats = line[f"{prefix}{name}_loss"]
            assert shown[name] == pytest.approx(nats, rel=1e-3)
            assert shown[f"{name} bits"] == pytest.approx(nats / math.log(2), rel=1e-3)
        assert shown["loss"] == pytest.approx(line[f"{prefix}loss"], rel=1e-3)
        assert shown["rtd_auc"] == pytest.approx(line[f"{prefix}rtd_auc"], abs=1e-3)
    assert numbers(lines[1])["tokens/s"] == pytest.approx(history[1]["tokens_per_second"], rel=0.01)
    assert [line["tokens"] for line in history if "loss" in line] == [TOKENS, 2 * TOKENS]
    head = " ".join(lines[3].split())
    assert head == "first, step 2 last, step 4 evaluation, step 4"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that moves when a test moves it; the peak is 1e9 operations a second."""
    seconds = [0.0]
    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))
    monkeypatch.setattr(pace, "device_peak", lambda *_: Peak(1e9, measured=True))
    return seconds


def takes(trainer: MetroTrainer, method: str, clock: list[float], seconds: float) -> None:
    """Let a method of a trainer move the clock."""
    original = getattr(trainer, method)

    def slow(*args: Any, **options: Any) -> Any:
        clock[0] += seconds
        return original(*args, **options)

    setattr(trainer, method, slow)


def test_figures_of_time_leave_evaluations_out(tmp_path: Path, clock: list[float]) -> None:
    """A step takes a second, an evaluation a minute."""
    trainer = metro_run(tmp_path, eval_strategy="steps", eval_steps=1, logging_steps=2)
    takes(trainer, "training_step", clock, 1)
    takes(trainer, "evaluation_loop", clock, 60)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert [line["tokens_per_second"] for line in lines] == [TOKENS / 2] * 2
    flops = [line["total_flos"] for line in lines]
    shares = [flops[0] / 2 / 1e9, (flops[1] - flops[0]) / 2 / 1e9]
    assert [line["model_flops_share"] for line in lines] == pytest.approx(shares)


def test_the_time_left_is_that_of_the_last_line(
    tmp_path: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """The first step is compiled, and takes ten minutes more."""
    trainer = metro_run(tmp_path, max_steps=8)
    takes(trainer, "training_step", clock, 90)
    compiled = []

    def compile_once(*args: Any, **options: Any) -> Any:
        if not compiled:
            compiled.append(True)
            clock[0] += 600
        return step(*args, **options)

    step, trainer.training_step = trainer.training_step, compile_once
    trainer.train()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step")]
    left = [line.split("  ")[-1] for line in lines]
    assert left == ["0:39:00 left", "0:06:00 left", "0:03:00 left", "0:00:00 left"]


def test_a_resumed_run_counts_on(tmp_path: Path, clock: list[float]) -> None:
    """Saved after three of the four steps of a line; its pace is that of the fourth alone."""
    options = {"max_steps": 4, "logging_steps": 4, "save_strategy": "steps", "save_steps": 3}
    lines = []
    for checkpoint in (None, str(tmp_path / "checkpoint-3")):
        trainer = metro_run(tmp_path, **options)
        takes(trainer, "training_step", clock, 1)
        trainer.train(resume_from_checkpoint=checkpoint)
        lines.append(next(line for line in trainer.state.log_history if "loss" in line))
    whole, resumed = lines
    assert whole["tokens"] == resumed["tokens"] == 2 * TOKENS
    assert whole["total_flos"] == resumed["total_flos"]
    assert whole["tokens_per_second"] == 2 * TOKENS / 4
    assert resumed["tokens_per_second"] == sum(LENGTHS[4:])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_live_table_that_is_taken_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (0.0, float("nan")):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        model = metro_model()
        with torch.no_grad():
            model.rtd_head.output.bias.fill_(value)
        trainer = metro_run(tmp_path, model, disable_tqdm=False)
        if value == 0:
            trainer.train()
            loss = trainer.state.log_history[-2]["mlm_loss"]
            assert f"{loss:.3f}" in terminal.getvalue()
            assert "4/4" in terminal.getvalue()
        else:
            with pytest.raises(MetroFastError, match="at step 1"):
                trainer.train()
        hidden, shown = (terminal.getvalue().rfind(f"\x1b[?25{end}") for end in "lh")
        assert 0 < hidden < shown


# Torch 2.10 does not count this one of its kernels of attention.
CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def of_cpu_attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def counted(model: torch.nn.Module, **batch: torch.Tensor) -> int:
    counting = FlopCounterMode(display=False, custom_mapping={CPU_ATTENTION: of_cpu_attention})
    with counting as counter, torch.no_grad():
        model(**batch)
    return int(counter.get_total_flops())


@pytest.mark.parametrize("target", ["masked_only", "all_masked_loss", "all"])
@pytest.mark.parametrize("heads", ["none", "both"])
def test_operations_of_metro_are_those_that_torch_counts(
    tmp_path: Path, target: str, heads: str
) -> None:
    options = {} if heads == "none" else {"rtd_target": "masked"}
    model = metro_model(decoding_target=target, rtd_head=heads, **options)
    trainer = metro_run(tmp_path, model)
    batch = MetroCollator()([Rows([16] * 4)[i] for i in range(4)])  # no padding
    expected = counted(model.eval(), **batch)
    assert trainer.forward_flops(batch) == expected
    assert trainer.floating_point_ops(batch) == 3 * expected


def test_an_auxiliary_model_that_does_not_learn_has_fewer_operations(tmp_path: Path) -> None:
    batch = MetroCollator()([Rows()[i] for i in range(4)])
    found = {}
    for name, options in {
        "trained": {},
        "drawn again": {"sampling_mode": "eval"},
        "frozen": {"auxiliary_frozen_from": 0},
        "dropped": {"auxiliary_dropped_from": 0},
    }.items():
        found[name] = metro_run(tmp_path, metro_model(**options)).floating_point_ops(batch)
    auxiliary = found["drawn again"] - found["trained"]
    assert auxiliary > 0
    assert found["trained"] - found["frozen"] == 2 * auxiliary
    assert found["frozen"] - found["dropped"] == auxiliary


def test_operations_of_span_corruption_are_those_that_torch_counts(tmp_path: Path) -> None:
    """Ragged rows: padding is computed, and so it is counted."""
    gated = {**MAIN, "feed_forward_proj": "gated-gelu"}
    model = T5ForConditionalGeneration(T5Config(**gated))
    trainer = MetroTrainer(model, arguments(tmp_path), data_collator=SpanCollator())
    batch = SpanCollator()([Rows()[i] for i in range(4)])
    names = ("input_ids", "attention_mask", "labels")
    assert trainer.forward_flops(batch) == counted(model.eval(), **{n: batch[n] for n in names})
    for weight in model.encoder.parameters():
        weight.requires_grad_(False)
    assert 2 < trainer.floating_point_ops(batch) / trainer.forward_flops(batch) < 3


def test_operations_of_the_published_base_model() -> None:
    """272 GFLOP for a row of 512 tokens with 77 masked; span corruption of as many inputs: 142."""
    sizes = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_heads": 12, "num_layers": 12}
    main = {**sizes, "vocab_size": 32128}
    with torch.device("meta"):
        metro = MetroForPretraining(MetroConfig(main=main))
        span = T5ForConditionalGeneration(T5Config(**main))
    flops = MetroFlops(metro, MetroObjective(metro.config))
    auxiliary, own = flops.forward(rows=1, length=512, target=512, masked=77, scored=77)
    assert round((auxiliary + own) / 1e9) == 272
    forward = Seq2SeqFlops(span).forward(rows=1, source=512, target=114, scored=114)
    assert round(forward / 1e9) == 142


def test_operations_of_the_released_architecture_are_those_that_torch_counts() -> None:
    model, ids = metro_t0(), torch.full((2, 11), 5)
    expected = counted(model, input_ids=ids, decoder_input_ids=ids[:, :4])
    assert Seq2SeqFlops(model).forward(rows=2, source=11, target=4, scored=8) == expected
