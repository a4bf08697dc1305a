"""Distributions of the lengths of noise spans."""

import math
from collections.abc import Sequence
from typing import Self

from metro_fast.errors import MetroFastError

_TAIL = 2.0**-33
"""The probability that a table omits: half of the smallest one that a draw can resolve."""


class SpanLengths(tuple[float, ...]):
    """Probabilities of spans of 1, 2, 3, ... tokens, relative to their sum.

    Args:
        probabilities: 0 or more each, not all 0.

    Raises:
        MetroFastError: If the table is empty, or a number is negative or infinite, or all are 0.

    Example:
        >>> SpanLengths.uniform(2, 3)
        SpanLengths((0.0, 0.5, 0.5))
        >>> SpanLengths.geometric(0.2, 10).mean  # SpanBERT's: 3.8 tokens
        3.797...
    """

    __slots__ = ()

    def __new__(cls, probabilities: Sequence[float]) -> Self:
        """Check the table."""
        table = tuple(float(p) for p in probabilities)
        if not table or not all(p >= 0 for p in table) or not 0 < sum(table) < math.inf:
            raise MetroFastError(
                f"span_lengths is {table[:8]}, expected probabilities, none negative, not all 0"
            )
        return super().__new__(cls, table)

    def __repr__(self) -> str:
        return f"SpanLengths({tuple(self)})"

    @property
    def mean(self) -> float:
        """Mean number of tokens in a span."""
        return sum(i * p for i, p in enumerate(self, 1)) / sum(self)

    @classmethod
    def fixed(cls, length: int) -> Self:
        """Every span has `length` tokens."""
        return cls.uniform(length, length)

    @classmethod
    def uniform(cls, shortest: int, longest: int) -> Self:
        """Every length from `shortest` to `longest` is equally likely."""
        if not 1 <= shortest <= longest <= 1 << 20:
            raise MetroFastError(
                f"the span lengths are {shortest} to {longest}, expected 1 <= shortest <= longest "
                "<= 2**20"
            )
        share = 1 / (longest - shortest + 1)
        return cls([0.0] * (shortest - 1) + [share] * (longest - shortest + 1))

    @classmethod
    def geometric(cls, p: float, longest: int) -> Self:
        """P(length) ~ p (1 - p)^(length - 1) up to `longest` (SpanBERT: 0.2, 10)."""
        if not 0 < p <= 1 or not 1 <= longest <= 1 << 20:
            raise MetroFastError(
                f"p is {p} and longest {longest}, expected 0 < p <= 1 and 1 to 2**20"
            )
        return cls([p * (1 - p) ** (length - 1) for length in range(1, longest + 1)])

    @classmethod
    def poisson(cls, rate: float) -> Self:
        """A Poisson distribution without 0, as an empty span hides nothing (BART's rate is 3)."""
        if not 0 < rate <= 1000:
            raise MetroFastError(f"rate is {rate}, expected more than 0 and at most 1000")
        table: list[float] = []
        while sum(table) < 1 - math.exp(-rate) - _TAIL or len(table) < rate:
            length = len(table) + 1
            table.append(math.exp(length * math.log(rate) - rate - math.lgamma(length + 1)))
        return cls(table)
