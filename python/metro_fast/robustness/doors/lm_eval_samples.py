"""lm-eval's `samples_*.jsonl`, read into cells."""

import math
import os
import re
from pathlib import Path
from typing import Any

from metro_fast._json import parse_json
from metro_fast.errors import FormatError
from metro_fast.prompts import Item
from metro_fast.robustness.doors.foreign import Asked, AskedError, ForeignRead, Gathering, part
from metro_fast.scoring import Outcome, predictions

__all__ = ["read_lm_eval_samples"]

_NAME = re.compile(r"samples_(?P<task>.+?)(_\d{4}-\d\d-\d\dT[\d.:-]+)?")


def read_lm_eval_samples(
    path: str | os.PathLike[str],
    *,
    model_name: str,
    task: str | None = None,
    split: str = "test",
    filter_name: str | None = None,
) -> ForeignRead:
    """Read the samples of one task, as `lm_eval --log_samples` writes them.

    Scores are lm-eval's sums of log-likelihoods. The item is the document, with those of its fields
    that JSON can hold, so that two wordings of one set of documents have the same items.

    Args:
        path: The file.
        model_name: Name of the model, which the file does not hold.
        task: Name of the task; by default that in the name of the file.
        split: Part of the data.
        filter_name: The filter whose answers are read, if the task has several; by default the
            first one of the file.

    Returns:
        The cell and the report. Documents with several inputs (as winogrande's) or several right
        answers, and those whose verdict in the file contradicts its scores, are rejects.

    Raises:
        FileNotFoundError: If the file is absent.
        FormatError: If a line is not JSON, or no line is a sample.

    Example:
        >>> found = read_lm_eval_samples(  # doctest: +SKIP
        ...     "samples_arc_easy_2026-01-01T10-00-00.jsonl", model_name="base"
        ... )
        >>> found.cell.to_cell().value  # doctest: +SKIP
        0.61
    """
    path = Path(path)
    gathering = Gathering(path)
    for number, text in enumerate(path.read_bytes().splitlines(), start=1):
        line = parse_json(text, f"{path}:{number}", not_finite=True)
        if isinstance(line, dict):
            filter_name = filter_name or line.get("filter")
            if line.get("filter") != filter_name:
                continue
        gathering.add(f"line {number}", lambda v=line, n=number: _asked(v, f"line {n}"))  # type: ignore[misc]
    if task is None:
        found = _NAME.fullmatch(path.stem)
        if found is None:
            raise FormatError(f"{path} is not named samples_TASK.jsonl; give the task's name")
        task = found["task"]
    return gathering.finish(harness="lm-eval", model_name=model_name, task=task, split=split)


def _asked(line: Any, where: str) -> Asked:
    document = part(line, "doc", dict, where)
    item_id = str(part(line, "doc_id", (int, str), where))
    arguments = part(line, "arguments", dict, where)
    # gen_args_0, ..., gen_args_9, gen_args_10
    requests = [arguments[key] for key in sorted(arguments, key=lambda k: (len(k), k))]
    if not requests:
        raise AskedError("no arguments", f"{where}: arguments is empty")
    inputs = [part(request, "arg_0", str, f"{where}, arguments") for request in requests]
    responses = part(line, "filtered_resps", list, where)
    if isinstance(requests[0].get("arg_1"), dict):
        return _written(line, where, Item(item_id, document, target=_target(line, where)), inputs)
    if len(requests) < 2:
        raise AskedError("no choices", f"{where} has the likelihood of one text alone")
    if len(set(inputs)) > 1:
        raise AskedError("several inputs", f"{where} has {len(set(inputs))} inputs")
    texts = [part(request, "arg_1", str, f"{where}, arguments") for request in requests]
    choices = tuple(text.strip() or text for text in texts)
    scores = tuple(_score(response, where) for response in responses)
    if len(scores) != len(choices):
        raise AskedError(
            "unequal counts", f"{where} has {len(scores)} responses, {len(choices)} requests"
        )
    answer = _answer(_target(line, where), choices, where)
    correct = _verdict(line, ("acc",))
    outcome = Outcome(predictions([scores])[0], scores)
    return Asked(Item(item_id, document, choices, answer), inputs[0], outcome, correct)


def _written(line: Any, where: str, item: Item, inputs: list[str]) -> Asked:
    """A document whose answer the model wrote."""
    responses = line["filtered_resps"]
    if not responses or not isinstance(responses[0], str):
        raise AskedError("no filtered_resps", f"{where} has no written answer")
    correct = _verdict(line, ("exact_match", "acc"))
    return Asked(item, inputs[0], Outcome(-1, None, responses[0]), correct)


def _target(line: Any, where: str) -> str:
    return str(part(line, "target", (str, int), where))


def _answer(target: str, choices: tuple[str, ...], where: str) -> int:
    """The index of the right choice; lm-eval also takes a number for an index."""
    if target.isascii() and target.isdigit() and int(target[:9]) < len(choices):
        return int(target)
    if choices.count(target.strip()) == 1:
        return choices.index(target.strip())
    if target.startswith("["):
        raise AskedError("several answers", f"{where}: the target is {target[:60]}")
    raise AskedError("no answer among the choices", f"{where}: the target is {target[:60]!r}")


def _score(response: Any, where: str) -> float:
    """The log-likelihood of a response, which is a pair; its numbers are texts."""
    first = response[0] if isinstance(response, list) and response else None
    try:
        if isinstance(first, str | float | int) and not math.isnan(score := float(first)):
            return score
    except (ValueError, OverflowError):
        pass
    raise AskedError("no score", f"{where} has the response {str(response)[:60]}")


def _verdict(line: Any, metrics: tuple[str, ...]) -> bool | None:
    found = [line[name] for name in metrics if line.get(name) in (0, 1)]
    return bool(found[0]) if found else None
