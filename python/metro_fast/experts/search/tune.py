"""Search for the density and alpha of an adapter's compression by scores on validation data."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.tensors import element
from metro_fast.experts.compression.compress import read_vector
from metro_fast.experts.compression.rescaled import Rescaled
from metro_fast.experts.compression.rules import QUANTIZERS, SCOPES
from metro_fast.experts.compression.source import read_initial
from metro_fast.experts.compression.task_vector import TaskVector
from metro_fast.experts.expert import Expert
from metro_fast.experts.loading.undo import Undo, undone
from metro_fast.experts.plain.plain import plain_tensors
from metro_fast.experts.search.log import SearchLog
from metro_fast.experts.search.progress import search_progress
from metro_fast.experts.search.score import checked_score
from metro_fast.experts.search.slots import Slots
from metro_fast.experts.search.summands import checksum
from metro_fast.experts.search.tuning_table import Alpha, Candidate, Tuning
from metro_fast.ops.ternarize import native_alpha

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5)
ALPHAS: tuple[Alpha, ...] = (0.5, 1, 2, 3, 4, 5, 6, 8, 10, "least_squares")


def tune_compression(
    source: Any,
    model: Any,
    score: Callable[[Any], float],
    *,
    densities: Sequence[float] = DENSITIES,
    alphas: Sequence[Alpha] = ALPHAS,
    quantize: str = "compeft",
    scope: str = "role",
    kind: str | None = None,
    initial: Mapping[str, Any] | str | Path | None = None,
    dense: Sequence[str] = (),
    higher_is_better: bool = False,
    resume: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    num_threads: int | None = None,
) -> Tuning:
    """Compress an adapter at every density and alpha, and score each on validation data.

    This is the grid of ComPEFT (arXiv 2311.13171), with least squares in addition to its alphas.
    The trits of a density are selected and packed once, since alpha only changes the scales; each
    candidate is the file that `compress` would write. The best score is chosen; among equal scores
    the fewest bytes, then the earlier candidate. The uncompressed adapter is scored for reference.

    Args:
        source: Anything that `compress` takes.
        model: A transformers model or PeftModel, whose adapter gets the weights of one candidate
            after another and which is restored at the end; or a function that turns an `Expert`
            into an object to be scored. With a function, the reference is not scored, and full
            residuals and prompts can be tuned.
        score: Rates the model; a loss unless `higher_is_better`. The choice is made by these
            scores, so report the score of the chosen candidate on other data.
        densities: Shares of entries to keep.
        alphas: Scales to try; see `compress`.
        quantize: `"compeft"`, `"stc"` or `"sign"`. The last two have no alphas, and `"sign"` has
            no densities.
        scope: As for `compress`.
        kind: As for `compress`.
        initial: As for `compress`.
        dense: As for `compress`.
        higher_is_better: Whether a higher score is better, as for accuracies.
        resume: File to which each score is written. If it exists, its scores are reused, even those
            for a grid of other densities and alphas.
        about: Other things that the scores depend on (data, model), which are kept in that file and
            compared when it is read. The source and the settings are compared in any case.
        progress: Whether to show a progress bar; by default on a terminal.
        num_threads: Threads to use; the machine's cores by default.

    Returns:
        All candidates, the best one and its expert.

    Raises:
        MissingExtraError: If peft is not installed.
        TypeError: If an argument has the wrong type, or a score is not a number.
        MetroFastError: If an argument is out of range, the adapter does not fit the model, a score
            is not finite, or `resume` is the file of another search.
        FormatError: If a file is damaged.

    Example:
        >>> import numpy as np
        >>> from metro_fast.experts import fidelity
        >>> weights = {"w": np.random.default_rng(0).standard_normal(4096).astype(np.float32)}
        >>> def lost(expert):
        ...     return 1 - fidelity(weights, expert)[0].cosine
        >>> found = tune_compression(
        ...     weights,
        ...     lambda expert: expert,
        ...     lost,
        ...     kind="other",
        ...     densities=(0.1, 0.5),
        ...     alphas=(1,),
        ... )
        >>> found.best.density, found.expert.nbytes == found.best.nbytes
        (0.5, True)
        >>> found  # doctest: +ELLIPSIS
        <Tuning of 2 candidates; best: density 0.5, alpha 1.0, ... bytes, score ...>
    """
    grid = _grid(densities, alphas, quantize, scope)
    given = read_initial(initial)
    vector = source if isinstance(source, TaskVector) else read_vector(source, kind, given, dense)
    settings = {"quantize": quantize, "scope": scope, "higher_is_better": higher_is_better}
    search = {"what": "metro_fast tune_compression", "source": checksum(vector), **settings}
    scores = _Scores(score, SearchLog(resume, search | {"about": dict(about or {})}))
    rows: list[Candidate] = []

    def work(undo: Undo) -> tuple[float | None, tuple[Candidate, Expert] | None]:
        show, whole = _showing(model, vector, given, undo)
        original = scores.of(None, None, lambda: show(None)) if whole else None
        best: tuple[Candidate, Expert] | None = None
        for density, line in grid:
            packed = Rescaled(vector, density, quantize, scope, num_threads)
            for alpha in line:
                expert = packed.at(alpha)
                rated = scores.of(density, alpha, partial(show, expert))
                bits, erased = expert.bits_per_parameter, packed.erased(expert)
                rows.append(Candidate(density, alpha, expert.nbytes, bits, rated, erased))
                if best is None or rows[-1].better(best[0], higher_is_better=higher_is_better):
                    best = (rows[-1], expert)
                update(len(rows), best[0].score)
        return original, best

    with search_progress("tune", sum(len(line) for _, line in grid), progress) as update:
        original, best = undone(work)
    assert best is not None  # the grid is not empty
    return Tuning(
        rows=tuple(rows),
        best=best[0],
        expert=best[1],
        original_score=original,
        original_nbytes=_nbytes(vector),
        higher_is_better=higher_is_better,
    )


class _Scores:
    """Scores of candidates, from the file of the search or from the caller's function."""

    def __init__(self, score: Callable[[Any], float], log: SearchLog) -> None:
        self._score, self._log = score, log
        self._rows = {
            _key(row.get("density"), row.get("alpha")): i for i, row in enumerate(log.rows)
        }

    def of(self, density: float | None, alpha: Alpha | None, scored: Callable[[], Any]) -> float:
        """The score of a candidate; `scored` is only called if the file does not have it."""
        row = self._rows.get(_key(density, alpha))
        if row is not None:
            return float(self._log.field(row, "score", float))
        value = checked_score(self._score(scored()))
        self._log.append({"density": density, "alpha": alpha, "score": value})
        return value


Line = tuple[float, list[Alpha | None]]


def _grid(
    densities: Sequence[float], alphas: Sequence[Alpha], quantize: str, scope: str
) -> list[Line]:
    """The densities with the alphas of each, all checked before the first is scored."""
    if quantize not in QUANTIZERS or quantize == "prune":
        raise MetroFastError(
            f"quantize is {quantize!r}, expected compeft, stc or sign (a pruned vector has no "
            "alpha and no file)"
        )
    if scope not in SCOPES:
        raise MetroFastError(f"scope is {scope!r}, expected one of {', '.join(SCOPES)}")
    if quantize == "sign":
        return [(1.0, [None])]
    line: list[Alpha | None] = [None]
    if quantize == "compeft":
        natives = [(native_alpha(alpha), alpha) for alpha in alphas]
        bad = next((alpha for n, alpha in natives if n is not None and not 0 < n < math.inf), None)
        if bad is not None:
            raise MetroFastError(f"alpha is {bad}, expected a positive finite number")
        line = list(dict.fromkeys("least_squares" if n is None else n for n, _ in natives))
    for density in densities:
        if isinstance(density, bool) or not isinstance(density, int | float):
            raise TypeError(f"density is {density!r}, expected a number in (0, 1]")
        if not 0 < density <= 1:
            raise MetroFastError(f"density is {density}, expected a number in (0, 1]")
    if not densities or not line:
        raise MetroFastError(
            f"{len(densities)} densities and {len(line)} alphas are given, expected at least one "
            "of each"
        )
    return [(density, line) for density in dict.fromkeys(map(float, densities))]


Show = Callable[[Expert | None], Any]


def _showing(
    model: Any, vector: TaskVector, given: Mapping[str, Any] | None, undo: Undo
) -> tuple[Show, bool]:
    """A function from an expert, or None for the uncompressed adapter, to the object to score.

    Returns:
        The function, and whether it takes None.
    """
    if callable(model) and not hasattr(model, "named_parameters"):
        return model, False
    if vector.kind not in ("lora", "ia3"):
        raise MetroFastError(
            f"the adapter has kind {vector.kind!r}, but only LoRA and IA3 weights of a model can "
            "be replaced repeatedly: pass a function that loads an expert into a model, with "
            "load_expert"
        )
    shapes = {name: residual.values.shape for name, residual in vector.residuals.items()}
    shapes |= {name: tensor.shape for name, tensor in vector.dense.items()}
    slots = Slots(model, vector.config, shapes, undo)
    needs_initial = any(residual.initial == "given" for residual in vector.residuals.values())
    start = dict(given) if needs_initial and given is not None else None

    def show(expert: Expert | None) -> Any:
        raw = plain_tensors(vector, start) if expert is None else expert.raw(initial=start)
        slots.write({name: tensor.torch() for name, tensor in raw.items()})
        return slots.model

    return show, True


def _nbytes(vector: TaskVector) -> int:
    """Bytes of the uncompressed tensors in their own dtypes."""
    ternary = sum(r.values.size * element(r.dtype).itemsize for r in vector.residuals.values())
    return ternary + sum(tensor.bytes.nbytes for tensor in vector.dense.values())


def _key(density: Any, alpha: Any) -> str:
    return json.dumps([density, alpha])
