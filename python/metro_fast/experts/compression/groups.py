"""Groups of tensors that share a threshold and a scale, made ternary."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.experts.compression.task_vector import Residual, TaskVector
from metro_fast.experts.file.manifest import Group
from metro_fast.ops.ternarize import FLOAT16_OVERFLOW


@dataclass(frozen=True)
class Rule:
    """How each group is made ternary.

    Attributes:
        density: Share of a group's entries to keep, in (0, 1].
        alpha: Scale in standard deviations; None is least squares.
        upstream: Keep what the published code of ComPEFT keeps: one entry more and every tie; with
            least squares its scale is the mean of the kept entries with their signs.
    """

    density: float
    alpha: float | None
    upstream: bool = False


@dataclass(frozen=True)
class Groups:
    """What came of it.

    Attributes:
        groups: Names, densities and alphas, for the manifest.
        scales: One a group.
        stds: Standard deviation of each group's entries (of a single entry its magnitude).
        group_of: Index of each tensor's group.
        lost: Groups of which nothing is left, and their entries.
        products: By tensor: the sums of w t, w^2 and t^2 over its entries w and trits t.
    """

    groups: tuple[Group, ...]
    scales: list[float]
    stds: list[float]
    group_of: dict[str, int]
    lost: dict[str, int]
    products: dict[str, tuple[float, float, int]]


def ternarize_groups(
    vector: TaskVector,
    scope: str,
    rule: Rule,
    starts: list[int],
    trits: NDArray[np.int8],
    threads: int,
) -> Groups:
    """Fill `trits` group by group.

    Args:
        vector: The residuals.
        scope: role, global or tensor.
        rule: What is kept and how it is scaled.
        starts: First trit of each residual, in their order.
        trits: int8, the flat sequence of all trits; zero between the residuals.
        threads: Threads to use.

    Raises:
        MetroFastError: If density or alpha is out of range, an entry is NaN or infinite, or a
            scale is too large for its tensors' dtype.
    """
    members = members_of(vector, scope)
    start_of = dict(zip(vector.residuals, starts, strict=True))
    groups: list[Group] = []
    scales: list[float] = []
    stds: list[float] = []
    lost: dict[str, int] = {}
    products: dict[str, tuple[float, float, int]] = {}
    for name, tensors in members.items():
        parts = [(t, vector.residuals[t].values.reshape(-1)) for t in tensors]
        places = [start_of[t] for t in tensors]
        scale, std, kept, of_tensor = _ternarize(parts, places, trits, rule, threads)
        products |= zip(tensors, of_tensor, strict=True)
        refuse_infinity(scale, [(t, vector.residuals[t]) for t in tensors])
        if (kept == 0 or scale == 0) and any(values.any() for _, values in parts):
            lost[name] = sum(values.size for _, values in parts)
        # For people, so rounded: the scale itself is in the file.
        found = round(scale / std, 4) if std > 0 else 0.0
        alpha = found if rule.alpha is None else rule.alpha
        groups.append(Group(name, float(rule.density), alpha))
        scales.append(scale)
        stds.append(std)
    group_of = {t: i for i, tensors in enumerate(members.values()) for t in tensors}
    return Groups(tuple(groups), scales, stds, group_of, lost, products)


def members_of(vector: TaskVector, scope: str) -> dict[str, list[str]]:
    """Names of each group's tensors; groups in ascending order of names."""
    members: dict[str, list[str]] = {}
    for name, residual in vector.residuals.items():
        group = {"role": residual.role, "global": "global", "tensor": name}[scope]
        members.setdefault(group, []).append(name)
    return {group: members[group] for group in sorted(members)}


def _ternarize(
    parts: list[tuple[str, NDArray[np.float32]]],
    places: list[int],
    trits: NDArray[np.int8],
    rule: Rule,
    threads: int,
) -> tuple[float, float, int, list[tuple[float, float, int]]]:
    """Scale, standard deviation, kept entries and products of one group."""
    if rule.upstream and rule.density == 1:
        # The published code returns early and leaves such a vector as it is.
        raise MetroFastError("density is 1 with upstream=True, which keeps the weights as they are")
    stc = rule.upstream and rule.alpha is None
    scale, std, kept, nonzeros, products = _core.ternarize(
        parts, places, trits, rule.density, 1.0 if stc else rule.alpha, threads, rule.upstream
    )
    if stc:
        mean = _signed_mean(parts, places, trits, nonzeros)
        scale = abs(mean)
        if mean < 0:
            products = [(-dot, square, count) for dot, square, count in products]
    return scale, std, kept, products


def _signed_mean(
    parts: list[tuple[str, NDArray[np.float32]]],
    places: list[int],
    trits: NDArray[np.int8],
    nonzeros: int,
) -> float:
    """The scale of ComPEFT's STC branch; a negative one turns every trit around."""
    total = 0.0
    slices = [trits[at : at + values.size] for at, (_, values) in zip(places, parts, strict=True)]
    for (_, values), kept in zip(parts, slices, strict=True):
        total += float(values[kept != 0].sum(dtype=np.float64))
    if total < 0:
        for kept in slices:
            np.negative(kept, out=kept)
    return float(np.float32(total / max(1, nonzeros)))


def refuse_infinity(scale: float, residuals: list[tuple[str, Residual]]) -> None:
    """Of the three dtypes float16 alone is too small for a float32 scale, with 1 added in IA3."""
    for name, residual in residuals:
        if residual.dtype == "F16" and scale + (residual.initial == "one") >= FLOAT16_OVERFLOW:
            raise MetroFastError(
                f"{name} is float16, which holds no scale of {scale:g} (at most 65504): lower "
                "alpha, or convert the adapter to bfloat16"
            )
