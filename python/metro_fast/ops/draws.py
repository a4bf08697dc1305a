"""Arguments that name a draw and that choose its threads: the same in every op."""

import operator
import sys

from metro_fast import _core
from metro_fast.errors import MetroFastError

_LIMIT = 1 << 63


def check_counter(name: str, value: int) -> int:
    """A seed or an epoch as an integer from 0 to 2^63 - 1 (torch has no unsigned integers).

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
    """Threads of a call that names no count: the machine's cores, and one in a DataLoader's worker.

    A forked child is known to the native module; a worker that was spawned is known to torch alone,
    which is not imported for the question. `METRO_FAST_NUM_THREADS` overrides both.
    """
    loading = sys.modules.get("torch.utils.data")
    return _core.default_threads(loading is not None and loading.get_worker_info() is not None)


def resolve_threads(num_threads: int | None, work: int, grain: int) -> int:
    """Threads of a call.

    Args:
        num_threads: The caller's count, or None for as many as pay.
        work: Size of the job, in elements.
        grain: Elements that take about 0.2 ms: less than that a thread's start costs more than it
            saves.

    Raises:
        TypeError: If the count is not an integer.
        MetroFastError: If the count is below 1.
    """
    if num_threads is None:
        # Asking the system for its cores takes some 25 µs, many times a small call.
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
