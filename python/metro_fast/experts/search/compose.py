"""Composition of existing experts for a new task with a few examples."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.compression.task_vector import TaskVector
from metro_fast.experts.loading.undo import Undo, all_or_nothing
from metro_fast.experts.merging.names import names_of
from metro_fast.experts.search.log import SearchLog
from metro_fast.experts.search.optimizer import Optimizer
from metro_fast.experts.search.progress import search_progress
from metro_fast.experts.search.score import checked_score
from metro_fast.experts.search.slots import Slots
from metro_fast.experts.search.summands import Summands, checksum, read_summand

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True)
class Trial:
    """One step of a search.

    Attributes:
        weights: One weight per expert.
        score: The score from the caller's function.
        objective: The value that was minimized.
    """

    weights: tuple[float, ...]
    score: float
    objective: float

    def __repr__(self) -> str:
        count = len(self.weights)
        return f"<Trial of {count} weights; score {self.score:.4g}, objective {self.objective:.4g}>"


@dataclass(frozen=True)
class Composition:
    """The result of a search.

    Attributes:
        weights: The weight of each expert in the trial with the lowest objective.
        score: The score of that trial.
        vector: The weighted sum; `compress(vector)` makes an expert of it.
        model: The PeftModel, with the sum in its adapter.
        history: All trials, in order.
        resident_bytes: Bytes that the experts and the sum took during the search.
        dense_bytes: Bytes of the experts as float32 state dicts, which LoraHub keeps in memory.
        mixing_seconds: Median time to compute a sum and copy it into the model; 0 if all trials
            came from a file.
    """

    weights: dict[str, float]
    score: float
    vector: TaskVector
    model: "PeftModel"
    history: tuple[Trial, ...]
    resident_bytes: int
    dense_bytes: int
    mixing_seconds: float

    def __repr__(self) -> str:
        largest = sorted(self.weights.items(), key=lambda pair: -abs(pair[1]))[:3]
        weights = ", ".join(f"{name} {weight:+.2f}" for name, weight in largest)
        return (
            f"<Composition of {len(self.weights)} experts after {len(self.history)} trials; score "
            f"{self.score:.4g}; largest weights: {weights}>"
        )


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
    """Search for the weighted sum of experts that does best on a few examples (LoraHub).

    The search uses no gradients. It follows arXiv 2307.13269 with its published settings: minimize
    score + l1 * mean |w| over weights within the bounds, from 0, in 40 steps of nevergrad's NGOpt.
    LoRA experts are summed factor by factor, A = sum w A_i and B = sum w B_i, which is LoraHub's
    rule (so the own update of an expert gets w ** 2, and `merge` needs other weights); IA3 vectors
    as 1 + sum w (v_i - 1). Compressed experts stay packed (2 bits per parameter), and each sum is
    written directly into the model's adapter. The result is the trial with the lowest objective,
    the first one if several are equal; LoraHub instead takes nevergrad's recommendation, which may
    never have been scored.

    Args:
        model: A transformers model, which gets an adapter, or a PeftModel, whose active adapter is
            overwritten. If the search fails or is interrupted, the model is restored.
        experts: By name or in order (then named by their folders or numbers): experts, task
            vectors, or anything that `compress` takes; all of one kind, base, rank and scaling.
        score: Rates the model, which is in evaluation mode; a loss unless `higher_is_better`.
        max_steps: Number of trials.
        bounds: Lowest and highest weight.
        l1: Weight of the mean magnitude of the weights in the objective.
        init: The weights at the start: one number for all, or one per expert.
        seed: Seed of the optimizer's draws. (NGOpt may select an optimizer that draws nothing.)
        optimizer: An optimizer in nevergrad's registry.
        higher_is_better: Whether a higher score is better, as for accuracies.
        resume: File to which each trial is written. If it exists, its trials are reused, and the
            search continues where it stopped, with the same result.
        about: Other things that the scores depend on (examples, model), which are kept in that file
            and compared when it is read. The experts, the settings and the version of nevergrad are
            compared in any case.
        progress: Whether to show a progress bar; by default on a terminal.
        num_threads: Threads of the sums; the machine's cores by default.

    Returns:
        The weights, their sum, the model with the sum, and all trials.

    Raises:
        MissingExtraError: If nevergrad or peft is not installed.
        TypeError: If a source is not an expert, or a score is not a number.
        MetroFastError: If experts do not fit each other or the model, a setting is out of range, a
            score is not finite, or `resume` is the file of another search.
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
        >>> found  # doctest: +ELLIPSIS
        <Composition of 2 experts after 10 trials; score ...; largest weights: ...>
        >>> found.history[0]  # doctest: +ELLIPSIS
        <Trial of 2 weights; score ..., objective ...>
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

    def work(undo: Undo) -> Composition:
        mixer = _Mixer(Slots(model, summands.config, summands.shapes, undo), summands)
        trials: list[Trial] = []
        with search_progress("compose", max_steps, progress) as update:
            for step in range(max_steps):
                weights = search.ask()
                rated = _rate(log, step, weights, mixer, score)
                penalty = l1 * float(np.abs(weights).mean())
                objective = (-rated if higher_is_better else rated) + penalty
                search.tell(objective)
                trials.append(Trial(tuple(weights.tolist()), rated, objective))
                best = min(trials, key=lambda trial: trial.objective)
                update(step + 1, best.score)
        return mixer.composition(best, trials)

    with search:
        return all_or_nothing(work)


class _Mixer:
    """Computes sums, copies them into the model, and measures the time."""

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

    def composition(self, best: Trial, trials: Sequence[Trial]) -> Composition:
        """The result of a search, with the sum of the best trial in the model."""
        measured = median(self.seconds or [0.0])
        self.mix(np.array(best.weights))
        return Composition(
            weights=dict(zip(self.summands.names, best.weights, strict=True)),
            score=best.score,
            vector=self.summands.vector(),
            model=self.slots.model,
            history=tuple(trials),
            resident_bytes=self.summands.nbytes + self.summands.flat.nbytes,
            dense_bytes=self.summands.dense_nbytes,
            mixing_seconds=measured,
        )


def _start(init: float | Mapping[str, float], names: Sequence[str]) -> list[float]:
    if not isinstance(init, Mapping):
        return [float(init)] * len(names)
    odd = sorted(set(init) ^ set(names))
    if odd:
        problem = "has a number for" if odd[0] in init else "has no number for the expert"
        known = ", ".join(names)
        raise MetroFastError(f"init {problem} {odd[0]}, expected one for each expert: {known}")
    return [float(init[name]) for name in names]


def _rate(
    log: SearchLog,
    step: int,
    weights: NDArray[np.float64],
    mixer: _Mixer,
    score: Callable[[Any], float],
) -> float:
    """The score of the weights, from the file of the search or from the caller's function."""
    if step < len(log.rows):
        return _logged(log, step, weights)
    mixer.mix(weights)
    rated = checked_score(score(mixer.slots.model))
    log.append({"step": step, "weights": weights.tolist(), "score": rated})
    return rated


def _logged(log: SearchLog, step: int, weights: NDArray[np.float64]) -> float:
    if log.field(step, "weights", list) != weights.tolist():
        raise MetroFastError(
            f"step {step} of the file has other weights than the search proposes: the file was "
            "written on another machine, or with other versions of nevergrad or its dependencies; "
            "remove it to start again"
        )
    return float(log.field(step, "score", float))
