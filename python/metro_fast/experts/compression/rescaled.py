"""One set of trits at many scales: alpha changes one number per group and nothing else."""

import math
from dataclasses import replace

import numpy as np

from metro_fast.errors import MetroFastError
from metro_fast.experts.compression.assemble import assemble, pack_block
from metro_fast.experts.compression.groups import Groups, Rule, refuse_infinity, ternarize_groups
from metro_fast.experts.compression.kept import Kept
from metro_fast.experts.compression.rules import read_rule
from metro_fast.experts.compression.task_vector import TaskVector
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.manifest import Group, layout
from metro_fast.ops.draws import resolve_threads
from metro_fast.ops.ternarize import CHUNK


class Rescaled:
    """A task vector at one density; its trits are found and packed once.

    Args:
        vector: The residuals.
        density: The share of entries to keep; None for sign, which keeps all.
        quantize: compeft, stc or sign, as in `compress`.
        scope: role, global or tensor.
        num_threads: Threads to use; the machine's cores by default.

    Attributes:
        lost: Names of the groups that have no nonzero entry left.

    Raises:
        MetroFastError: If density is out of range, or an entry is NaN or infinite.

    Example:
        >>> from metro_fast.experts import compress, task_vector
        >>> vector = task_vector({"w": np.float32([3, -1, 2, 5])}, kind="other")
        >>> rescaled = Rescaled(vector, 0.5)
        >>> file = compress(vector, density=0.5, alpha=3.0).file
        >>> bool(np.array_equal(rescaled.at(3.0).file, file))
        True
    """

    def __init__(
        self,
        vector: TaskVector,
        density: float | None,
        quantize: str = "compeft",
        scope: str = "role",
        num_threads: int | None = None,
    ) -> None:
        self._vector, self._scope = vector, scope
        self._rule = read_rule(quantize, density, None, upstream=False)
        self._starts, count = layout([r.values.size for r in vector.residuals.values()])
        self._threads = resolve_threads(num_threads, count, CHUNK)
        self._trits = np.zeros(count, np.int8)
        self._made = ternarize_groups(
            vector, scope, self._rule, self._starts, self._trits, self._threads
        )
        self._block = pack_block(self._trits, "default", self._threads)
        self._kept = Kept(vector, self._starts, self._trits)
        self.lost = tuple(self._made.lost)

    def __repr__(self) -> str:
        return f"Rescaled({self._vector!r}, density={self._rule.density:g}, scope={self._scope!r})"

    def at(self, alpha: float | str | None) -> Expert:
        """The expert with an alpha, in the bytes that `compress` would make.

        Args:
            alpha: As in `compress`; None for stc and sign, which find their scale themselves.

        Raises:
            TypeError: If alpha is neither a number nor the name of a rule.
            MetroFastError: If alpha is out of range, or gives a scale that a dtype cannot hold.
        """
        rule = self._rule
        if alpha is not None:
            rule = read_rule("compeft", self._rule.density, alpha, upstream=False)
        made = self._scaled(rule)
        estimate = self._kept.estimate(made)
        return assemble(self._vector, made, self._scope, rule, self._starts, self._block, estimate)

    def erased(self, expert: Expert) -> tuple[str, ...]:
        """Names of the modules whose update is erased in one of these experts.

        Args:
            expert: What `at` returned.
        """
        return tuple(self._kept.erased(expert.estimated_fidelity))

    def _scaled(self, rule: Rule) -> Groups:
        if rule.alpha is None:
            return self._made
        with np.errstate(over="ignore"):
            scales = [float(np.float32(rule.alpha * std)) for std in self._made.stds]
        if not 0 < rule.alpha < float("inf") or not all(map(math.isfinite, scales)):
            raise MetroFastError(
                f"alpha is {rule.alpha}, expected a positive number whose scales float32 can hold"
            )
        for name, residual in self._vector.residuals.items():
            refuse_infinity(scales[self._made.group_of[name]], {name: residual})
        groups = tuple(Group(g.name, g.density, rule.alpha) for g in self._made.groups)
        return replace(self._made, groups=groups, scales=scales)
