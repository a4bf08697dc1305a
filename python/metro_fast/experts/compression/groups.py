"""Making groups of tensors ternary; the tensors of a group share a threshold and a scale."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.initial import constant_of
from metro_fast.experts.compression.task_vector import Residual, TaskVector
from metro_fast.experts.file.manifest import Group
from metro_fast.ops.ternarize import FLOAT16_OVERFLOW

Products: TypeAlias = tuple[float, float, int]
"""The sums of w t, w^2 and t^2 over the entries w and the trits t of a tensor."""


@dataclass(frozen=True)
class Rule:
    """How to make a group ternary.

    Attributes:
        density: The share of the entries to keep, in (0, 1].
        alpha: The scale in standard deviations; None stands for least squares.
        upstream: Whether to keep what the published code of ComPEFT keeps: one more entry and every
            tie; with least squares its scale is the mean of the kept entries with their signs.
    """

    density: float
    alpha: float | None
    upstream: bool = False


@dataclass(frozen=True)
class Groups:
    """Groups that were made ternary.

    Attributes:
        groups: Names, densities and alphas, for the manifest.
        scales: The scale of each group.
        stds: The standard deviation of each group's entries; of a single entry, its magnitude.
        group_of: The index of each tensor's group.
        lost: Groups that have no nonzero entry left, with the number of their entries.
        products: For each tensor the sums of w t, w^2 and t^2 over its entries w and trits t.
    """

    groups: tuple[Group, ...]
    scales: list[float]
    stds: list[float]
    group_of: dict[str, int]
    lost: dict[str, int]
    products: dict[str, Products]

    def __repr__(self) -> str:
        count, tensors = len(self.groups), len(self.group_of)
        return f"Groups({count} groups of {tensors} tensors, {len(self.lost)} lost)"


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
        rule: How to make a group ternary.
        starts: The first trit of each residual, in their order.
        trits: int8, the flat sequence of all trits; zero between the residuals.
        threads: Threads to use.

    Raises:
        MetroFastError: If density or alpha is out of range, an entry is NaN or infinite, or a
            scale is too large for its tensors' dtype.
    """
    members = members_of(vector, scope)
    start_of = dict(zip(vector.residuals, starts, strict=True))
    products: dict[str, Products] = {}

    def results() -> Iterator[tuple[float, float, int]]:
        for tensors in members.values():
            parts = [(t, vector.residuals[t].values.reshape(-1)) for t in tensors]
            places = [start_of[t] for t in tensors]
            scale, std, kept, of_tensor = _ternarize(parts, places, trits, rule, threads)
            products.update(zip(tensors, of_tensor, strict=True))
            yield scale, std, kept

    return collect_groups(vector, members, rule, results(), products)


def collect_groups(
    vector: TaskVector,
    members: Mapping[str, Sequence[str]],
    rule: Rule,
    results: Iterable[tuple[float, float, int]],
    products: dict[str, Products],
) -> Groups:
    """Check the result of each group, and collect what the manifest and the warnings need.

    Args:
        vector: The residuals; their values are not read.
        members: Names of each group's tensors.
        rule: How the groups were made ternary.
        results: The scale, standard deviation and number of kept entries of each group.
        products: The products of each tensor, which exist once the result of its group does.

    Raises:
        MetroFastError: If a scale is too large for its tensors' dtype.
    """
    groups: list[Group] = []
    scales: list[float] = []
    stds: list[float] = []
    lost: dict[str, int] = {}
    for (name, tensors), (scale, std, kept) in zip(members.items(), results, strict=True):
        residuals = {t: vector.residuals[t] for t in tensors}
        refuse_infinity(scale, residuals)
        if (kept == 0 or scale == 0) and any(products[t][1] > 0 for t in tensors):
            lost[name] = sum(residual.values.size for residual in residuals.values())
        # Rounded for readers: the scale itself is in the file.
        ratio = round(scale / std, 4) if std > 0 else 0.0
        groups.append(Group(name, float(rule.density), ratio if rule.alpha is None else rule.alpha))
        scales.append(scale)
        stds.append(std)
    group_of = {t: i for i, tensors in enumerate(members.values()) for t in tensors}
    return Groups(tuple(groups), scales, stds, group_of, lost, products)


def members_of(vector: TaskVector, scope: str) -> dict[str, list[str]]:
    """Names of each group's tensors; the groups are in ascending order of names."""
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
) -> tuple[float, float, int, list[Products]]:
    """Scale, standard deviation, number of kept entries and products of one group."""
    if rule.upstream and rule.density == 1:
        # The published code returns early and leaves such a vector unchanged.
        raise MetroFastError(
            "density is 1 with upstream=True, which leaves the weights unchanged: lower density"
        )
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
    """The scale of ComPEFT's STC branch; a negative scale inverts every trit."""
    total = 0.0
    slices = [trits[at : at + values.size] for at, (_, values) in zip(places, parts, strict=True)]
    for (_, values), kept in zip(parts, slices, strict=True):
        total += float(values[kept != 0].sum(dtype=np.float64))
    if total < 0:
        for kept in slices:
            np.negative(kept, out=kept)
    return float(np.float32(total / max(1, nonzeros)))


def refuse_infinity(scale: float, residuals: Mapping[str, Residual]) -> None:
    """Refuse scales that would become infinite, which happens in float16 alone.

    Raises:
        MetroFastError: If the scale plus the initial value of a tensor exceeds float16.
    """
    for name, residual in residuals.items():
        largest = scale + float(constant_of(residual.initial))
        if residual.dtype == "F16" and largest >= FLOAT16_OVERFLOW:
            raise MetroFastError(
                f"{name} is float16, which cannot hold a scale of {scale:g} (at most 65504): lower "
                "alpha, or convert the adapter to bfloat16"
            )
