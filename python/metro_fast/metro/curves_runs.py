"""The histories of runs, read from their `metrics.jsonl`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metro_fast._json import parse_json
from metro_fast._training.run_folder import HISTORY
from metro_fast.errors import FormatError, MetroFastError

TRAINER_STATE = "trainer_state.json"
"""The file of a checkpoint of transformers that holds the history up to it."""
Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Run:
    """The history of one run.

    Attributes:
        name: Its name in the legend.
        training: (step, value) of each figure of the training lines.
        evaluation: The same of the evaluations, without the prefix `eval_`.
        left_out: Number of values that are not finite, and so cannot be drawn.
    """

    name: str
    training: Mapping[str, Points]
    evaluation: Mapping[str, Points]
    left_out: int


def read_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Read the histories of runs.

    Args:
        folders: Folders with `metrics.jsonl`, or with the `trainer_state.json` of a Trainer.

    Raises:
        MetroFastError: If no run is given, one is given twice, or one has logged nothing yet.
        FormatError: If a line is damaged.
        OSError: If a folder has neither file.
    """
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise MetroFastError("there is no run to draw: give at least one folder of a run")
    return [_read(path, name) for path, name in zip(paths, _names(paths), strict=True)]


def _names(paths: Sequence[Path]) -> list[str]:
    """The end of each path that is long enough to tell the runs apart."""
    parts = [path.absolute().resolve().parts for path in paths]
    for number, own in enumerate(parts):
        if own in parts[:number]:
            raise MetroFastError(f"the run {paths[number]} is given twice: leave one of them out")
    names = []
    for own in parts:
        length = 1
        while sum(other[-length:] == own[-length:] for other in parts) > 1:
            length += 1
        names.append("/".join(own[-length:]))
    return names


def _lines(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The log lines of a run, and the file that holds them."""
    path, state = folder / HISTORY, folder / TRAINER_STATE
    if path.is_file():
        texts = path.read_bytes().splitlines()
        return path, [_line(text, path, number) for number, text in enumerate(texts, 1)]
    if not state.is_file():
        raise FileNotFoundError(
            f"{folder} has neither {HISTORY} nor {TRAINER_STATE}: give the output folder of a run "
            "of pretrain or finetune, or a checkpoint of a Trainer"
        )
    try:
        history = parse_json(state.read_bytes(), f"{state} is damaged", not_finite=True)[
            "log_history"
        ]
        return state, [_checked(line, state, number) for number, line in enumerate(history, 1)]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"{state} is damaged ({error}): give another checkpoint of the run"
        ) from error


def _read(folder: Path, name: str) -> Run:
    path, lines = _lines(folder)
    training: dict[str, dict[int, float]] = {}
    evaluation: dict[str, dict[int, float]] = {}
    left_out = 0
    for line in lines:
        if "train_loss" in line:  # the summary at the end of a training
            continue
        for key, value in line.items():
            if key in ("step", "epoch") or not isinstance(value, int | float):
                continue
            if not math.isfinite(value):
                left_out += 1
                continue
            part = evaluation if key.startswith("eval_") else training
            part.setdefault(key.removeprefix("eval_"), {})[line["step"]] = float(value)
    if "loss" not in training and "loss" not in evaluation:
        raise MetroFastError(f"{path} has no loss yet: wait for the first log line of the run")
    return Run(name, _points(training), _points(evaluation), left_out)


def _line(text: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        line = parse_json(text, path, not_finite=True)
    except ValueError as error:
        raise FormatError(
            f"line {number} of {path} is damaged ({error}): remove it, or resume the run, which "
            "writes the file again"
        ) from error
    return _checked(line, path, number)


def _checked(line: Any, path: Path, number: int) -> dict[str, Any]:
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        raise FormatError(
            f"line {number} of {path} is damaged: expected a JSON object with an integer `step`"
        )
    return line


def _points(part: Mapping[str, Mapping[int, float]]) -> dict[str, Points]:
    return {name: tuple(sorted(values.items())) for name, values in part.items()}
