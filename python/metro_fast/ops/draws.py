"""Arguments that name a draw and choose its threads: they are the same in every op."""

import operator
import sys
from typing import NamedTuple, Self

from metro_fast import _core
from metro_fast.errors import MetroFastError

_LIMIT = 1 << 63


class Draw(NamedTuple):
    """The seed, the epoch and the number of threads of a native call.

    Attributes:
        seed: 0 to 2^63 - 1.
        epoch: 0 to 2^63 - 1.
        num_threads: 1 or more.
    """

    seed: int
    epoch: int
    num_threads: int

    @classmethod
    def read(cls, seed: int, epoch: int, num_threads: int | None, work: int, grain: int) -> Self:
        """Check the caller's numbers; see `resolve_threads` for `work` and `grain`."""
        threads = resolve_threads(num_threads, work, grain)
        return cls(check_counter("seed", seed), check_counter("epoch", epoch), threads)


def check_counter(name: str, value: int) -> int:
    """A seed, an epoch or an id as an integer from 0 to 2^63 - 1 (torch lacks unsigned integers).

    Raises:
        TypeError: If it is not an integer.
        MetroFastError: If it is negative or too large.
    """
    try:
        number = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name} is a {type(value).__name__}, expected an integer") from error
    if not 0 <= number < _LIMIT:
        raise MetroFastError(f"{name} is {number}, expected 0 or more and less than 2**63")
    return number


def default_threads() -> int:
    """Number of threads if the caller gives none: all cores, but one in a DataLoader's worker.

    The native module knows when it runs in a forked child. Only torch knows whether a spawned
    process is a worker, and torch is not imported just to find out. `METRO_FAST_NUM_THREADS`
    overrides both.
    """
    loading = sys.modules.get("torch.utils.data")
    return _core.default_threads(loading is not None and loading.get_worker_info() is not None)


def resolve_threads(num_threads: int | None, work: int, grain: int) -> int:
    """Number of threads of a call.

    Args:
        num_threads: The caller's number, or None for as many as are worth starting.
        work: Size of the job, in elements.
        grain: Number of elements that take about 0.2 ms. For fewer, starting a thread costs more
            time than it saves.

    Raises:
        TypeError: If the number is not an integer.
        MetroFastError: If the number is below 1.
    """
    if num_threads is None:
        # Asking the system for its cores takes about 25 µs, many times as long as a small call.
        useful = work // grain
        return min(default_threads(), useful) if useful > 1 else 1
    try:
        count = operator.index(num_threads)
    except TypeError as error:
        raise TypeError(
            f"num_threads is a {type(num_threads).__name__}, expected an integer or None"
        ) from error
    if count < 1:
        raise MetroFastError(f"num_threads is {count}, expected 1 or more, or None")
    return min(count, 1024)
