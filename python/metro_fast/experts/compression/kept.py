"""How well compression keeps each update of a task vector."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metro_fast.experts.adapters.factors import (
    Side,
    Update,
    is_factor,
    is_plain,
    misfit,
    updates_of,
)
from metro_fast.experts.adapters.updates import (
    ModuleFidelity,
    compare_updates,
    erased_modules,
    estimate_updates,
)
from metro_fast.experts.compression.groups import Groups
from metro_fast.experts.compression.task_vector import TaskVector


class Kept:
    """How well each update of a task vector is kept, as far as its sums and trits say it cheaply.

    Args:
        vector: The residuals.
        starts: The first trit of each residual, in their order.
        trits: int8, the flat sequence of all trits. Without it, as in a stream, factors of a LoRA
            are not looked at together.
    """

    def __init__(
        self, vector: TaskVector, starts: Sequence[int], trits: NDArray[np.int8] | None
    ) -> None:
        self._starts = vector.starts
        self._before = side_of(vector)
        # Nothing loads factors without a product: fidelity refuses them, and each is a row here.
        self._updates = [
            part
            for update in updates_of_vector(vector)
            for part in (
                [update]
                if misfit(update, self._before) is None
                else [Update(name, (name,)) for name in update.names]
            )
        ]
        self._special = {
            update.module
            for update in self._updates
            if not is_plain(update, self._before, self._starts)
        }
        self._trits = {} if trits is None else {
            name: trits[start : start + values.size].reshape(values.shape)
            for (name, values), start in zip(self._before.residuals.items(), starts, strict=True)
        }  # fmt: skip

    def estimate(self, made: Groups) -> list[ModuleFidelity]:
        """An estimate for plain products, and the exact figures for everything else."""
        scales = {name: made.scales[group] for name, group in made.group_of.items()}
        rows = []
        for update in self._updates:
            if update.module not in self._special:
                rows += estimate_updates([update], made.products, scales)
                continue
            after = {name: self._trits[name] * np.float32(scales[name]) for name in update.names}
            side = Side(after, self._before.whole)
            rows += compare_updates([update], self._before, side, self._starts)
        return rows

    def erased(self, estimate: Sequence[ModuleFidelity]) -> list[str]:
        """Names of the modules whose update points in another direction after compression."""
        plain = [update for update in self._updates if update.module not in self._special]
        rows = {row.module: row for row in estimate}
        found = erased_modules(
            plain, self._before.residuals, self._trits, [rows[update.module] for update in plain]
        )
        found += [row.module for row in estimate if row.erased and row.module in self._special]
        return [update.module for update in self._updates if update.module in found]


def updates_of_vector(vector: TaskVector) -> list[Update]:
    """The updates that a task vector is made of.

    A merge of LoRA experts with given initial values does not have these, so that products of its
    factors are not known: each factor is then an update itself.
    """
    known = all(
        r.initial != "given" or name in vector.starts for name, r in vector.residuals.items()
    )
    kind = vector.kind if known else "other"
    return updates_of(kind, vector.residuals, side_of(vector).whole)


def side_of(vector: TaskVector) -> Side:
    """A task vector's residuals, and the values of its factors that are kept whole."""
    whole = {
        name: tensor.float32()
        for name, tensor in vector.dense.items()
        if vector.kind == "lora" and is_factor(name)
    }
    return Side({name: residual.values for name, residual in vector.residuals.items()}, whole)
