"""Density and alpha of an adapter's compression, chosen by scores on validation data."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
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

    The grid of ComPEFT (arXiv 2311.13171), with least squares beside its alphas. The trits of a
    density are found and packed once, since alpha only changes the scales; each candidate is the
    file that `compress` would write. The best score is chosen, of equal scores the fewest bytes,
    then the earlier candidate. The uncompressed adapter is scored too, as the reference.

    Args:
        source: What `compress` takes.
        model: A transformers model or PeftModel whose adapter gets each candidate's weights in turn
            and which is left as it was; or a function that makes of an `Expert` what is scored
            (then the reference is not scored, and full residuals and prompts can be tuned).
        score: Rates the model; a loss unless `higher_is_better`. The scores are chosen from, so
            report the chosen one's on other data.
        densities: Shares of entries to keep.
        alphas: Scales to try; see `compress`.
        quantize: `"compeft"`; with `"stc"` or `"sign"` there are no alphas, with sign no densities.
        scope: As for `compress`.
        kind: As for `compress`.
        initial: As for `compress`.
        dense: As for `compress`.
        higher_is_better: Whether a higher score is better, as of accuracies.
        resume: File that gets a line after each score. If it is there, its scores are taken over,
            of a grid of other densities and alphas too.
        about: What else the scores depend on (data, model), kept in that file and compared when it
            is read; of the source and the settings this is done anyway.
        progress: Whether to show a bar; by default on a terminal.
        num_threads: Threads to use; the machine's cores by default.

    Returns:
        All candidates, the best one and its expert.

    Raises:
        MissingExtraError: If peft is not installed.
        TypeError: If an argument has the wrong type, or the score is no number.
        MetroFastError: If an argument is out of range, the adapter does not fit the model, a score
            is not finite, or `resume` is a file of another search.
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
    """
    grid = _grid(densities, alphas, quantize, scope)
    given = read_initial(initial)
    vector = source if isinstance(source, TaskVector) else read_vector(source, kind, given, dense)
    log = SearchLog(
        resume,
        {
            "what": "metro_fast tune_compression",
            "source": checksum(vector),
            "quantize": quantize,
            "scope": scope,
            "higher_is_better": higher_is_better,
            "about": dict(about or {}),
        },
    )
    known = {_key(row.get("density"), row.get("alpha")): i for i, row in enumerate(log.rows)}

    def rate(density: float | None, alpha: Alpha | None, expert: Expert | None) -> float:
        found = known.get(_key(density, alpha))
        if found is not None:
            return float(log.field(found, "score", float))
        value = checked_score(score(show(expert)))
        log.append({"density": density, "alpha": alpha, "score": value})
        return value

    rows: list[Candidate] = []
    best: tuple[Candidate, Expert] | None = None
    total = sum(len(line) for _, line in grid)
    with ExitStack() as undo, search_progress("tune", total, progress) as tell:
        show, whole = _showing(model, vector, given, undo)
        original = rate(None, None, None) if whole else None
        for density, line in grid:
            packed = Rescaled(vector, density, quantize, scope, num_threads)
            for alpha in line:
                expert = packed.at(alpha)
                rated = rate(density, alpha, expert)
                bits = expert.bits_per_parameter
                rows.append(Candidate(density, alpha, expert.nbytes, bits, rated, packed.erased))
                if best is None or rows[-1].better(best[0], higher_is_better=higher_is_better):
                    best = (rows[-1], expert)
                tell(len(rows), best[0].score)
    assert best is not None  # the grid is not empty
    return Tuning(
        rows=tuple(rows),
        best=best[0],
        expert=best[1],
        original_score=original,
        original_nbytes=_nbytes(vector),
        higher_is_better=higher_is_better,
    )


Line = tuple[float, list[Alpha | None]]


def _grid(
    densities: Sequence[float], alphas: Sequence[Alpha], quantize: str, scope: str
) -> list[Line]:
    """Densities and the alphas of each, every one checked before anything is scored."""
    if quantize not in QUANTIZERS or quantize == "prune":
        raise MetroFastError(
            f"quantize is {quantize!r}, expected compeft, stc or sign (what is only pruned has no "
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
        raise MetroFastError("no densities or no alphas, expected at least one of each")
    return [(density, line) for density in dict.fromkeys(map(float, densities))]


Show = Callable[[Expert | None], Any]


def _showing(
    model: Any, vector: TaskVector, given: Mapping[str, Any] | None, undo: ExitStack
) -> tuple[Show, bool]:
    """What makes of an expert (or, for None, of the uncompressed adapter) what is scored.

    Returns:
        The function, and whether it takes None.
    """
    if callable(model) and not hasattr(model, "named_parameters"):
        return model, False
    if vector.kind not in ("lora", "ia3"):
        raise MetroFastError(
            f"the adapter is of kind {vector.kind!r}, and only LoRA and IA3 are put into a model "
            "again and again: pass a function that makes a model of an expert, with load_expert"
        )
    shapes = {name: residual.values.shape for name, residual in vector.residuals.items()}
    shapes |= {name: tensor.shape for name, tensor in vector.dense.items()}
    slots = Slots(model, vector.config, shapes, undo)
    brought = any(residual.initial == "given" for residual in vector.residuals.values())
    start = dict(given) if brought and given is not None else None

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
