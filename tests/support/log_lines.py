"""Log lines as tests compare them: without the figures that a clock has measured."""

from typing import Any

from metro_fast._training.pace import TIMED


def untimed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The training lines of a history, which two equal runs share to the last bit."""
    training = [line for line in lines if "loss" in line]
    assert all("tokens_per_second" in line for line in training)
    return [{k: v for k, v in line.items() if k not in TIMED} for line in training]
