"""A run as it is shown on stderr: plain lines in a file, a live table on a terminal."""

import sys
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from transformers import TrainerCallback, TrainerControl, TrainerState

from metro_fast._training.pace import Pace
from metro_fast._training.run_words import (
    data_text,
    device_text,
    duration,
    evaluation_of,
    last_rows,
    line_parts,
    parameters_text,
)


class RunProgress(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Shows a run: a first line, the figures of each log, and a table at the end.

    Everything goes to stderr, from the first rank alone. `trainer.remove_callback(RunProgress)`
    silences it.

    Args:
        pace: The stopwatch of the run.
        live: Whether to keep one live table instead of writing a line for each log.
        file: Where to write; by default `sys.stderr`, as it is when training begins.
    """

    def __init__(self, pace: Pace, *, live: bool, file: TextIO | None = None) -> None:
        self._pace, self._wants_live, self._file = pace, live, file
        self.step_tokens = 0
        """Tokens of the first step, on all ranks; the trainer sets it."""
        self._line: dict[str, Any] = {}
        self._evaluation: dict[str, Any] | None = None
        self._live: Live | None = None
        self._begun = False

    def close(self) -> None:
        """Take the live table down, also if training failed."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget the run before."""
        self._line, self._evaluation, self._begun = {}, None, False

    def on_step_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the first line when the first batches are known."""
        if self._begun or not state.is_world_process_zero:
            return
        self._begun = True
        rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        data = data_text(getattr(kwargs.get("train_dataloader"), "dataset", None))
        peak = f", {self._pace.peak} peak" if self._pace.peak is not None else ""
        self._write(
            f"{parameters_text(kwargs['model'])}; {data}, {rows:,} rows and {self.step_tokens:,} "
            f"tokens a step; {device_text(args, kwargs['model'])}{peak}; steps "
            f"{state.global_step + 1} to {state.max_steps}; losses in nats/bits per token"
        )
        if self._wants_live:
            columns = (TextColumn("step"), BarColumn(), MofNCompleteColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[left]}"))
            self._task = self._bar.add_task("", total=state.max_steps, left="")
            self._live = Live(
                self._table(), console=self._console(), refresh_per_second=4, transient=True
            )
            self._live.start()

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Advance the bar."""
        if self._live is not None:
            self._bar.update(self._task, completed=state.global_step, left=self._left(state))

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the figures of the line."""
        if not state.is_world_process_zero or logs is None:
            return
        evaluation = evaluation_of(logs)
        if evaluation is not None:
            prefix, figures = evaluation
            self._evaluation = {**figures, "step": state.global_step}
            self._show(f"{prefix} at step {state.global_step}", figures, "")
        elif "loss" in logs:
            self._line = dict(logs)
            width = len(str(state.max_steps))
            self._show(
                f"step {state.global_step:{width}}/{state.max_steps}", logs, self._left(state)
            )

    def on_train_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the table of the first and the last figures."""
        self.close()
        lines = [line for line in state.log_history if "loss" in line]
        if not lines or not state.is_world_process_zero:
            return
        head, rows = last_rows(lines[0], lines[-1], self._evaluation)
        table = Table(box=None, pad_edge=False)
        for number, name in enumerate(head):
            table.add_column(name, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        self._console().print(table)
        tokens = lines[-1].get("tokens", 0)
        self._write(
            f"{state.global_step:,} steps, {tokens:,} tokens, {state.total_flos:.3g} "
            f"floating-point operations; {duration(self._pace.total)} of training"
        )

    def _left(self, state: TrainerState) -> str:
        seconds = self._pace.seconds_left(state.max_steps)
        return "" if seconds is None else f"{duration(seconds)} left"

    def _show(self, title: str, figures: Mapping[str, Any], left: str) -> None:
        if self._live is not None:
            self._live.update(self._table())
            return
        parts = [f"{name} {value}" for name, value in line_parts(figures)]
        self._write("  ".join([title, *parts, *filter(None, [left])]))

    def _table(self) -> Table:
        """The live table: the bar above the newest figures of training and evaluation."""
        outer = Table.grid()
        outer.add_row(self._bar)
        inner = Table("", "train", "evaluation", box=None, pad_edge=False)
        train = dict(line_parts(self._line))
        held_out = dict(line_parts(self._evaluation)) if self._evaluation else {}
        for name in dict.fromkeys([*train, *held_out]):
            inner.add_row(name, train.get(name, ""), held_out.get(name, ""))
        outer.add_row(inner)
        return outer

    def _console(self) -> Console:
        # Lines in a file are not cut at the width of a terminal that is not there.
        file = self._file or sys.stderr
        return Console(file=file, width=None if file.isatty() else 200, highlight=False)

    def _write(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, highlight=False)
            return
        file = self._file or sys.stderr
        file.write(text + "\n")
        file.flush()
