"""Medians of device time: events on a GPU, the system's clock on a CPU."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def median_of(
    work: Callable[[], Any], device: torch.device, *, rounds: int = 20, spread: int = 5
) -> float:
    """Seconds of one call of `work`, the median of rounds after a warm-up.

    Args:
        work: What is timed. It may not wait for the device.
        device: Where it runs.
        rounds: Measurements.
        spread: Calls of the warm-up: modules are loaded, kernels compiled, memory found.
    """
    for _ in range(spread):
        work()
    if device.type != "cuda":
        return statistics.median(_on_cpu(work) for _ in range(rounds))
    torch.cuda.synchronize(device)
    pairs = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize(device)
    return statistics.median(begin.elapsed_time(end) for begin, end in pairs) / 1e3


def interleaved(
    works: dict[str, Callable[[], Any]], device: torch.device, *, rounds: int = 20
) -> dict[str, float]:
    """Seconds of each, measured in turns, so that a drift of the clock affects all equally."""
    turns = {name: [] for name in works}
    for _ in range(3):
        for name, work in works.items():
            turns[name].append(median_of(work, device, rounds=max(1, rounds // 3)))
    return {name: statistics.median(times) for name, times in turns.items()}


def _on_cpu(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
