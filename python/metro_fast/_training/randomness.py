"""Separate random numbers for data loading and for training."""

import contextlib
from collections.abc import Iterator

import torch


class DataRandomness:
    """A state of torch's global CPU generator that is used while batches are loaded.

    A DataLoader draws a seed from the global generator when it starts, but not when its persistent
    workers continue: dropout would depend on the number of workers and on resume points.

    Args:
        seed: Seed of the state.

    Example:
        >>> randomness, _ = DataRandomness(0), torch.manual_seed(1)
        >>> with randomness.in_force():
        ...     _ = torch.rand(3)
        >>> torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(1))
        tensor([True])
    """

    def __init__(self, seed: int) -> None:
        self._state = torch.Generator().manual_seed(seed).get_state()

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Use this state, and restore that of the training at the end."""
        training = torch.get_rng_state()
        torch.set_rng_state(self._state)
        try:
            yield
        finally:
            self._state = torch.get_rng_state()
            torch.set_rng_state(training)
