"""Optimizers of nevergrad, with one point at a time."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from metro_fast._extras import require
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError


class Optimizer:
    """Proposes one point after another; equal values always lead to equal proposals.

    Args:
        name: An optimizer in nevergrad's registry.
        init: The point at which it starts.
        bounds: Lowest and highest value of every coordinate.
        budget: Number of points.
        seed: Seed of the random draws.

    Attributes:
        version: The version of nevergrad.

    Raises:
        MissingExtraError: If nevergrad is not installed.
        MetroFastError: If nevergrad does not have the optimizer, the budget is below 1, or the
            start is not inside the bounds.

    Example:
        >>> values = []
        >>> with Optimizer("NGOpt", [0.0], (-1.5, 1.5), budget=20, seed=0) as search:
        ...     for _ in range(20):
        ...         values.append(float((search.ask()[0] - 0.5) ** 2))
        ...         search.tell(values[-1])
        >>> min(values) < 0.01
        True
    """

    def __init__(
        self,
        name: str,
        init: Sequence[float],
        bounds: tuple[float, float],
        *,
        budget: int,
        seed: int,
    ) -> None:
        ng = require("nevergrad", "compose")
        low, high = bounds
        if name not in ng.optimizers.registry:
            raise MetroFastError(
                f"optimizer is {quoted(name)}, which nevergrad does not have, expected for "
                "instance NGOpt (as in LoraHub), CMA, OnePlusOne, DE or PSO"
            )
        if budget < 1:
            raise MetroFastError(f"max_steps is {budget}, expected at least 1")
        if not (-np.inf < low < high < np.inf):
            raise MetroFastError(f"bounds are {bounds}, expected two finite numbers, lowest first")
        outside = next((v for v in init if not low < v < high), None)
        if outside is not None:
            raise MetroFastError(f"init has {outside}, expected numbers between {low} and {high}")
        array = ng.p.Array(
            init=np.array(init, np.float64),
            lower=np.full(len(init), low),
            upper=np.full(len(init), high),
        )
        array.random_state = np.random.RandomState(seed)
        self._optimizer: Any = ng.optimizers.registry[name](array, budget=budget, num_workers=1)
        self._asked: Any = None
        self.version = str(ng.__version__)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # Some solvers wait in a thread that ends only when they are deleted; if it waited forever,
        # Python could not exit.
        self._optimizer = self._asked = None

    def ask(self) -> NDArray[np.float64]:
        """The next point: float64 [coordinates]."""
        with _quiet():
            self._asked = self._optimizer.ask()
        return np.array(self._asked.value, np.float64)

    def tell(self, value: float) -> None:
        """Report the value of the last point; lower is better."""
        with _quiet():
            self._optimizer.tell(self._asked, value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of solvers about settings that nevergrad chose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "COBYLA", UserWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="nevergrad")
        warnings.filterwarnings("ignore", category=UserWarning, module="cma")
        yield
