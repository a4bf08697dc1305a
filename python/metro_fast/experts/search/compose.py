"""A new expert for a task of which there are a few examples, out of experts that are there."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.compression.task_vector import TaskVector
from metro_fast.experts.merging.names import names_of
from metro_fast.experts.search.log import SearchLog
from metro_fast.experts.search.optimizer import Optimizer
from metro_fast.experts.search.progress import search_progress
from metro_fast.experts.search.score import checked_score
from metro_fast.experts.search.slots import Slots
from metro_fast.experts.search.summands import Summands, checksum, read_summand


@dataclass(frozen=True)
class Trial:
    """One step of a search.

    Attributes:
        weights: One an expert.
        score: What the caller's function returned.
        objective: What was minimized.
    """

    weights: tuple[float, ...]
    score: float
    objective: float


@dataclass(frozen=True)
class Composition:
    """What a search found.

    Attributes:
        weights: Weight of each expert, of the trial with the lowest objective.
        score: Its score.
        vector: The weighted sum; `compress(vector)` makes an expert of it.
        model: The PeftModel, with the sum in its adapter.
        history: Every trial, in order.
        resident_bytes: Bytes that held the experts during the search, and the sum.
        dense_bytes: What float32 state dicts of the experts take, which LoraHub holds.
        mixing_seconds: Median time of making a sum and putting it into the model; 0 if every trial
            came from a file.
    """

    weights: dict[str, float]
    score: float
    vector: TaskVector
    model: Any
    history: tuple[Trial, ...]
    resident_bytes: int
    dense_bytes: int
    mixing_seconds: float


def compose_fewshot(
    model: Any,
    experts: Mapping[str, Any] | Sequence[Any],
    score: Callable[[Any], float],
    *,
    max_steps: int = 40,
    bounds: tuple[float, float] = (-1.5, 1.5),
    l1: float = 0.05,
    init: float | Mapping[str, float] = 0.0,
    seed: int = 0,
    optimizer: str = "NGOpt",
    higher_is_better: bool = False,
    resume: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    num_threads: int | None = None,
) -> Composition:
    """Search the weights of a sum of experts that do best on a few examples (LoraHub).

    Without gradients, after arXiv 2307.13269 and with its published settings: minimize
    score + l1 * mean |w| over weights within the bounds, from 0, in 40 steps of nevergrad's NGOpt.
    LoRA experts are summed factor by factor, A = sum w A_i and B = sum w B_i; IA3 vectors as
    1 + sum w (v_i - 1). Compressed experts stay packed (2 bits a parameter) and each sum is written
    straight into the model's adapter. Of all trials the one with the lowest objective is taken, the
    first of equals; LoraHub takes nevergrad's recommendation, which need not have been scored.

    Args:
        model: A transformers model, which gets an adapter, or a PeftModel, whose active adapter is
            written over. If anything fails or is interrupted it is left as it was.
        experts: By name or in order (then named by their folders or numbers): experts, task
            vectors, or anything that `compress` takes; one kind, base, rank and scaling.
        score: Rates the model, which is in evaluation mode; a loss unless `higher_is_better`.
        max_steps: Trials.
        bounds: Lowest and highest weight.
        l1: Weight of the mean magnitude of the weights.
        init: Where the search starts: one number, or one an expert.
        seed: Of the optimizer's draws. (NGOpt may pick one that draws nothing.)
        optimizer: An optimizer of nevergrad's registry.
        higher_is_better: Whether a higher score is better, as of accuracies.
        resume: File that gets a line after each trial. If it is there, its trials are taken over
            and the search goes on where it stopped, to the same result.
        about: What else the scores depend on (examples, model), kept in that file and compared when
            it is read; of the experts, the settings and nevergrad this is done anyway.
        progress: Whether to show a bar; by default on a terminal.
        num_threads: Threads of the sums; the machine's cores by default.

    Returns:
        Weights, their sum, the model with it, and all trials.

    Raises:
        MissingExtraError: If nevergrad or peft is not installed.
        TypeError: If an expert is something else, or the score is no number.
        MetroFastError: If experts do not fit each other or the model, a setting is out of range, a
            score is not finite, or `resume` is a file of another search.
        FormatError: If a file is damaged.

    Example:
        >>> import torch
        >>> from peft import LoraConfig, get_peft_model
        >>> from metro_fast.experts import compress
        >>> def adapted(seed):
        ...     config = LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
        ...     torch.manual_seed(seed)
        ...     return get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 8)), config)
        >>> experts = {name: compress(adapted(seed), density=0.5) for seed, name in enumerate("ab")}
        >>> model, inputs = adapted(0), torch.ones(1, 8)
        >>> wanted = model(inputs).detach()
        >>> def loss(model):
        ...     return float((model(inputs) - wanted).detach().square().mean())
        >>> found = compose_fewshot(model, experts, loss, max_steps=10)
        >>> sorted(found.weights), len(found.history), found.score <= found.history[0].score
        (['a', 'b'], 10, True)
    """
    sources = list(experts.values() if isinstance(experts, Mapping) else experts)
    found = [read_summand(source) for source in sources]
    names = list(experts) if isinstance(experts, Mapping) else names_of(sources)
    summands = Summands(names, found, num_threads)
    start = _start(init, names)
    search = Optimizer(optimizer, start, bounds, budget=max_steps, seed=seed)
    log = SearchLog(
        resume,
        {
            "what": "metro_fast compose_fewshot",
            "experts": [[n, checksum(f)] for n, f in zip(names, found, strict=True)],
            "max_steps": max_steps,
            "bounds": [float(bound) for bound in bounds],
            "l1": float(l1),
            "init": start,
            "seed": seed,
            "optimizer": optimizer,
            "nevergrad": search.version,
            "higher_is_better": higher_is_better,
            "about": dict(about or {}),
        },
    )
    with search, ExitStack() as undo:
        mixer = _Mixer(Slots(model, summands.config, summands.shapes, undo), summands)
        trials: list[Trial] = []
        with search_progress("compose", max_steps, progress) as tell:
            for step in range(max_steps):
                weights = search.ask()
                if step < len(log.rows):
                    rated = _logged(log, step, weights)
                else:
                    mixer.mix(weights)
                    rated = checked_score(score(mixer.slots.model))
                    log.append({"step": step, "weights": weights.tolist(), "score": rated})
                penalty = l1 * float(np.abs(weights).mean())
                objective = (-rated if higher_is_better else rated) + penalty
                search.tell(objective)
                trials.append(Trial(tuple(weights.tolist()), rated, objective))
                best = min(trials, key=lambda trial: trial.objective)
                tell(step + 1, best.score)
        mixer.mix(np.array(best.weights))
        composition = Composition(
            weights=dict(zip(names, best.weights, strict=True)),
            score=best.score,
            vector=summands.vector(),
            model=mixer.slots.model,
            history=tuple(trials),
            resident_bytes=summands.nbytes + summands.flat.nbytes,
            dense_bytes=summands.dense_nbytes,
            mixing_seconds=median(mixer.seconds[:-1] or [0.0]),
        )
        undo.pop_all()
    return composition


class _Mixer:
    """Sums into the model, and how long they take."""

    def __init__(self, slots: Slots, summands: Summands) -> None:
        self.slots, self.summands = slots, summands
        torch = require("torch", "peft")
        self._views = {n: torch.from_numpy(summands.tensor(n)) for n in summands.shapes}
        self.seconds: list[float] = []

    def mix(self, weights: NDArray[np.float64]) -> None:
        begin = time.perf_counter()
        self.summands.add(weights)
        self.slots.write(self._views)
        self.seconds.append(time.perf_counter() - begin)


def _start(init: float | Mapping[str, float], names: Sequence[str]) -> list[float]:
    if not isinstance(init, Mapping):
        return [float(init)] * len(names)
    odd = sorted(set(init) ^ set(names))
    if odd:
        raise MetroFastError(f"init has no number for, or a number for no expert: {odd[0]}")
    return [float(init[name]) for name in names]


def _logged(log: SearchLog, step: int, weights: NDArray[np.float64]) -> float:
    kept = log.field(step, "weights", list)
    if kept != weights.tolist():
        raise MetroFastError(
            f"step {step} of the file has other weights than the search asks for: it was made on "
            "another machine or with other versions of nevergrad's parts; remove it to start anew"
        )
    return float(log.field(step, "score", float))
