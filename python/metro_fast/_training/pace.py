"""The pace of a training: tokens and operations per second, without evaluations and saves."""

import time
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from metro_fast._training.device_peak import Peak, device_peak

TIMED = ("tokens_per_second", "model_flops_share")
"""Figures of a log line that depend on the clock, and so differ between two equal runs."""


class Pace(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """A stopwatch that runs during steps, including the loading of their batches.

    Attributes:
        peak: The peak of one device; None until it is known.
        seconds: Seconds of the steps since training began.
        carried: Tokens since the last log line that were trained before a resume.
        before: Seconds of the steps before a resume.
    """

    def __init__(self) -> None:
        self.peak: Peak | None = None
        self.seconds = self._line_seconds = 0.0
        self.carried, self.before = 0, 0.0
        self._line_step = self._step = 0
        self._step_seconds: float | None = None
        self._flops, self._last = 0.0, time.perf_counter()

    @property
    def total(self) -> float:
        """Seconds of the steps of the whole run."""
        return self.before + self.seconds

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Find the peak of the device, and start at the state of a new or resumed run."""
        if state.is_world_process_zero:
            dtype = next(kwargs["model"].parameters()).dtype
            self.peak = device_peak(args.device, torch.bfloat16 if args.bf16 else dtype)
        self.seconds = self._line_seconds = 0.0
        self._line_step = self._step = state.global_step
        self._step_seconds = None
        self._flops, self._last = state.total_flos, time.perf_counter()

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the time since the end of the last step, evaluation or save."""
        passed = self._lap()
        self.seconds += passed
        self._line_seconds += passed
        self._step = state.global_step

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the time of the evaluation out."""
        self._lap()

    def on_save(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the time of the save out."""
        self._lap()

    def _lap(self) -> float:
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        return passed

    def line(self, tokens: float, flops: float, devices: int) -> dict[str, float]:
        """Compute the timed figures of a log line, and start the next.

        Args:
            tokens: Tokens since the last line, on all ranks.
            flops: Operations of the run so far, on all ranks.
            devices: Number of ranks.

        Returns:
            `tokens_per_second`, and `model_flops_share` of the peak of all devices if that is
            known; nothing if no step was made.
        """
        seconds, before = self._line_seconds, self._flops
        carried, self.carried = self.carried, 0
        self._line_seconds, self._flops = 0.0, flops
        if self._step > self._line_step:
            self._step_seconds = seconds / (self._step - self._line_step)
        self._line_step = self._step
        if seconds <= 0:
            return {}
        found = {"tokens_per_second": (tokens - carried) / seconds}
        if self.peak is not None and flops > before:
            found["model_flops_share"] = (flops - before) / seconds / (self.peak.flops * devices)
        return found

    def seconds_left(self, steps: int) -> float | None:
        """The time of the steps up to `steps` at the pace of the last line; None before it.

        The mean over all steps would hold the compilation of the first one against the others.
        """
        if self._step_seconds is None:
            return None
        return self._step_seconds * max(0, steps - self._step)
