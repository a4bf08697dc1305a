"""Random numbers of their own for data loading, for training steps and for evaluation."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


class OwnRandomness:
    """States of the global generators that are in force for one kind of work only.

    Dropout must not depend on who else draws: a DataLoader draws a seed when it starts, but not
    when its persistent workers continue; a collator may draw masks; a callback may sample texts
    between two steps. The generators are those of torch, numpy and Python.

    Args:
        device: The device whose generator belongs to the work, besides that of the CPU.
        seed: Seed of the states; None takes those that the generators have now.

    Example:
        >>> data, _ = OwnRandomness("cpu", seed=0), torch.manual_seed(1)
        >>> with data.in_force():
        ...     _ = torch.rand(3), np.random.rand(), random.random()
        >>> torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(1))
        tensor([True])
    """

    def __init__(self, device: torch.device | str, *, seed: int | None = None) -> None:
        self._device = torch.device(device)
        outside = _states(self._device)
        if seed is not None:  # not torch.manual_seed, which would seed every device
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.default_generator.manual_seed(seed)
            if self._device.type != "cpu":
                torch.get_device_module(self._device).manual_seed(seed)
        self._own = _states(self._device)
        _restore(outside, self._device)

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Use these states, keep what becomes of them, and restore those of everybody else."""
        outside = _states(self._device)
        _restore(self._own, self._device)
        try:
            yield
        finally:
            self._own = _states(self._device)
            _restore(outside, self._device)


def _states(device: torch.device) -> tuple[Any, ...]:
    own = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state()
    numpy = np.random.get_state()  # noqa: NPY002
    return random.getstate(), numpy, torch.get_rng_state(), own


def _restore(states: tuple[Any, ...], device: torch.device) -> None:
    python, numpy, cpu, own = states
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    torch.set_rng_state(cpu)
    if own is not None:
        torch.get_device_module(device).set_rng_state(own)
