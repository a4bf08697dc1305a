"""Optimizers and schedules: their formulas, their groups, and a bit-equal resume with each."""

import json
import math
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TrainerCallback
from transformers.optimization import Adafactor

from metro_cases import MetroCollator, Rows, arguments, metro_model, resume_run
from metro_fast._training.rms_adamw import RmsScaledAdamW
from metro_fast.errors import MetroFastError
from metro_fast.metro import MetroTrainer
from warm_processes import start


def adamw_scale(
    weights: list[np.ndarray],
    gradients: list[list[np.ndarray | None]],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    decay: float,
) -> list[np.ndarray]:
    """nanoT5's AdamWScale one tensor and one step at a time, as its formula is printed."""
    weights = [weight.copy() for weight in weights]
    for i, weight in enumerate(weights):
        m, v, t = np.zeros_like(weight), np.zeros_like(weight), 0
        for step in gradients:
            g = step[i]
            if g is None:
                continue
            t += 1
            m = betas[0] * m + (1 - betas[0]) * g
            v = betas[1] * v + (1 - betas[1]) * g * g
            rms = math.sqrt(float(np.mean(weight * weight)))
            rate = lr * max(1e-3, rms) * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
            weight -= rate * m / (np.sqrt(v) + eps)
            weight -= lr * decay * weight
    return weights


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    lr=st.floats(1e-4, 0.5),
    betas=st.tuples(st.floats(0, 0.95), st.floats(0, 0.999)),
    eps=st.sampled_from([1e-8, 1e-3]),
    decay=st.sampled_from([0.0, 0.1]),
    missing=st.integers(0, 3),
)
def test_rms_scaled_adamw_is_its_formula(
    seed: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    decay: float,
    missing: int,
) -> None:
    """float64; one of four tensors lacks a gradient at every other step."""
    generator = np.random.default_rng(seed)
    weights = [generator.normal(size=(3, 5)), np.zeros(4), 50 * generator.normal(size=(2, 2, 2))]
    weights.append(np.array(0.5))
    parameters = [torch.nn.Parameter(torch.from_numpy(weight.copy())) for weight in weights]
    gradients: list[list[np.ndarray | None]] = [
        [
            None if i == missing and step % 2 else generator.normal(size=w.shape)
            for i, w in enumerate(weights)
        ]
        for step in range(4)
    ]
    optimizer = RmsScaledAdamW(parameters, lr=lr, betas=betas, eps=eps, weight_decay=decay)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = None if gradient is None else torch.as_tensor(gradient)
        optimizer.step()
    expected = adamw_scale(weights, gradients, lr=lr, betas=betas, eps=eps, decay=decay)
    for parameter, weight in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), weight, rtol=1e-9, atol=1e-12)


def test_rms_scaled_adamw_refuses_numbers_outside_their_domain() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    for options, message in (
        ({"lr": -1.0}, "lr is -1.0"),
        ({"betas": (0.9, 1.0)}, "beta2 is 1.0"),
        ({"eps": math.nan}, "eps is nan"),
        ({"floor": -1e-3}, "floor is -0.001"),
    ):
        with pytest.raises(MetroFastError, match=message):
            RmsScaledAdamW([weight], **options)  # type: ignore[arg-type]


class KeepRates(TrainerCallback):
    """Keeps the rates of the groups that each step is taken with."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        self.rates.append([group["lr"] for group in kw["optimizer"].param_groups])


def train(folder: Path, *callbacks: TrainerCallback, **options: Any) -> MetroTrainer:
    trainer = MetroTrainer(
        metro_model(),
        arguments(folder, **{"per_device_train_batch_size": 4, "max_steps": 3, **options}),
        train_dataset=Rows(),
        data_collator=MetroCollator(),
        callbacks=list(callbacks),
    )
    trainer.train()
    return trainer


def moved(trainer: MetroTrainer) -> float:
    """Largest change of a weight since the start."""
    start_weights = metro_model().state_dict()
    return max(
        float((weight - start_weights[name]).abs().max())
        for name, weight in trainer.model.state_dict().items()
    )


@pytest.mark.parametrize("optim", ["adafactor", "adamw_torch", "adamw_torch_fused"])
@pytest.mark.parametrize("rms_scaled", [False, True])
def test_optimizers_train_over_our_groups(tmp_path: Path, optim: str, rms_scaled: bool) -> None:
    rates = KeepRates()
    trainer = train(
        tmp_path,
        rates,
        optim=optim,
        rms_scaled=rms_scaled,
        embedding_multiplier=2.0,
        lr_scheduler_type="constant",
    )
    optimizer = trainer.optimizer
    assert optimizer is not None
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert rates.rates == [[1e-3, 1e-3, 2e-3, 1e-3]] * 3
    assert list(groups) == ["matrices", "vectors", "embeddings", "relative_bias"]
    assert [group["weight_decay"] for group in groups.values()] == [0.01, 0.0, 0.0, 0.0]
    inner = getattr(optimizer, "optimizer", optimizer)
    if optim == "adafactor":
        assert isinstance(inner, Adafactor)
        assert {group["scale_parameter"] for group in groups.values()} == {rms_scaled}
        assert {group["relative_step"] for group in groups.values()} == {False}
    elif rms_scaled:
        assert type(inner) is RmsScaledAdamW
        assert {group["betas"] for group in groups.values()} == {(0.9, 0.98)}
        assert {group["eps"] for group in groups.values()} == {1e-6}
    else:
        assert type(inner) is torch.optim.AdamW
    # Three steps of Adam move a weight by at most about three rates. Scaled, a matrix of N(0, 0.2)
    # moves less; Adafactor bounds the root mean square of a step, not each entry.
    assert 0 < moved(trainer) < (0.3 if optim == "adafactor" else 0.01)


@pytest.mark.parametrize(
    "options",
    [{"rms_scaled": True}, {"embedding_multiplier": 2.0}, {"relative_bias_multiplier": 2.0}],
)
def test_other_optimizers_have_no_scaled_rates(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(MetroFastError, match=r"adamw_torch_fused or adafactor, got optim=sgd"):
        train(tmp_path, optim="sgd", **options)


STEPS, WARMUP, PEAK = 12, 4, 1e-3
RISE = [n / WARMUP for n in range(WARMUP)]
FORMULAS = {
    "linear": RISE + [(STEPS - n) / (STEPS - WARMUP) for n in range(WARMUP, STEPS)],
    "cosine": RISE
    + [
        0.5 * (1 + math.cos(math.pi * (n - WARMUP) / (STEPS - WARMUP)))
        for n in range(WARMUP, STEPS)
    ],
    # After the warmup of k steps this is T5's 1 / sqrt(max(n, k)), in units of 1 / sqrt(k).
    "inverse_sqrt": RISE
    + [math.sqrt(WARMUP) / math.sqrt(max(n, WARMUP)) for n in range(WARMUP, STEPS)],
    "constant_with_warmup": RISE + [1.0] * (STEPS - WARMUP),
    "constant": [1.0] * STEPS,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_schedules_are_their_formulas(tmp_path: Path, name: str) -> None:
    rates = KeepRates()
    train(
        tmp_path,
        rates,
        max_steps=STEPS,
        warmup_steps=WARMUP,
        learning_rate=PEAK,
        lr_scheduler_type=name,
        relative_bias_multiplier=20.0,
    )
    factors = np.array(FORMULAS[name])
    expected = np.outer(factors, [PEAK, PEAK, PEAK, 20 * PEAK])
    np.testing.assert_allclose(rates.rates, expected, rtol=1e-12, atol=1e-18)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"optim": "adafactor"}, {"optim": "adafactor", "rms_scaled": True}, {"rms_scaled": True}],
    ids=["adafactor", "adafactor scaled", "adamw scaled"],
)
def test_killed_and_resumed_is_bit_equal(tmp_path: Path, options: dict[str, Any]) -> None:
    """Dropout .1, 12 steps over 3 epochs, saved each 5, SIGKILL after step 8."""
    resume_run(tmp_path / "unbroken", resume=False, kill_after=0, **options)
    errors = tmp_path / "errors.txt"
    broken = partial(resume_run, tmp_path / "broken", **options)
    for resume, kill_after, code in ((False, 8, -signal.SIGKILL), (True, 0, 0)):
        process = start(partial(broken, resume=resume, kill_after=kill_after), errors=errors)
        process.join(100)
        assert process.exitcode == code, errors.read_text()
    runs = [tmp_path / name for name in ("unbroken", "broken")]
    weights = [torch.load(run / "final.pt") for run in runs]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    history = [json.loads((run / "history.json").read_text()) for run in runs]
    losses = [[line["loss"] for line in h if "loss" in line] for h in history]
    assert losses[0] == losses[1]
