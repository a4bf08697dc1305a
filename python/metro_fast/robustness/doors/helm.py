"""HELM's `scenario_state.json`, read into cells."""

import math
import os
from pathlib import Path
from typing import Any

from metro_fast._json import parse_json
from metro_fast.errors import FormatError
from metro_fast.prompts import Item
from metro_fast.robustness.doors.foreign import Asked, AskedError, ForeignRead, Gathering, part
from metro_fast.scoring import Outcome, predictions

__all__ = ["read_helm"]

_ORIGINAL = "multiple_choice_separate_original"
_CALIBRATED = "multiple_choice_separate_calibrated"
_JOINT = "multiple_choice_joint"


def read_helm(
    path: str | os.PathLike[str], *, task: str | None = None, split: str = "test", trial: int = 0
) -> ForeignRead:
    """Read the requests of one run of HELM with their results.

    Of `multiple_choice_joint`, the written letter is the choice. Of the two separate methods, the
    score is HELM's (basic_metrics.py, `compute_logprob_and_length`): the mean log-likelihood of the
    reference's tokens, or their sum less that without the question. Other methods give the text.

    Args:
        path: The file.
        task: Name of the task; by default that of the folder, up to a colon.
        split: Part of the data that is read; HELM's instances name theirs.
        trial: The draw of examples (`train_trial_index`) that is read.

    Returns:
        The cell and the report. Rejects are perturbed instances, those of another split or trial,
        without a result, or with several right references.

    Raises:
        FileNotFoundError: If the file is absent.
        FormatError: If it is damaged, is not a scenario state, or has no request that can be read.

    Example:
        >>> found = read_helm("runs/v1/mmlu:subject=anatomy/scenario_state.json")  # doctest: +SKIP
        >>> found.cell.task  # doctest: +SKIP
        'mmlu'
    """
    path = Path(path)
    state = parse_json(path.read_bytes(), path, not_finite=True)
    try:
        spec = part(state, "adapter_spec", dict, str(path))
        method, model = (
            part(spec, key, str, f"{path}, adapter_spec") for key in ("method", "model")
        )
        requests = part(state, "request_states", list, str(path))
    except AskedError as error:
        raise FormatError(f"{path} is not a scenario state of HELM: {error}") from error
    gathering = Gathering(path)
    groups: dict[str, list[Any]] = {}
    for number, request in enumerate(requests):
        # Requests that are left out are gathered alone, for the count.
        try:
            key = _instance(request, f"request {number}", split, trial)
        except AskedError as error:
            gathering.add(f"request {number}", lambda e=error: _again(e))  # type: ignore[misc]
            continue
        if method not in (_ORIGINAL, _CALIBRATED):
            key = f"{key}\n{number}"
        groups.setdefault(key, []).append(request)
    for key, group in groups.items():
        where = f"instance {key.partition(chr(10))[0]}"
        gathering.add(where, lambda g=group, w=where: _asked(g, w, method))  # type: ignore[misc]
    name = task or path.resolve().parent.name.partition(":")[0]
    return gathering.finish(harness="helm", model_name=model, task=name, split=split)


def _again(error: AskedError) -> Asked:
    raise error


def _instance(request: Any, where: str, split: str, trial: int) -> str:
    """The id of a request's instance, if it is to be read."""
    instance = part(request, "instance", dict, where)
    if instance.get("perturbation"):
        raise AskedError("perturbed", f"{where}: {str(instance['perturbation'])[:60]}")
    if instance.get("split") != split:
        raise AskedError("another split", f"{where} is of {instance.get('split')!r}")
    if request.get("train_trial_index", 0) != trial:
        raise AskedError("another trial", f"{where} is of {request['train_trial_index']!r}")
    return str(part(instance, "id", str, where))


def _asked(group: list[Any], where: str, method: str) -> Asked:
    instance = group[0]["instance"]
    question = part(part(instance, "input", dict, where), "text", str, f"{where}, input")
    references = [
        (_text(reference, where), "correct" in part(reference, "tags", list, where))
        for reference in part(instance, "references", list, where)
    ]
    right = [place for place, (_, correct) in enumerate(references) if correct]
    fields = {"input": question}
    choices = tuple(text for text, _ in references)
    if method in (_ORIGINAL, _CALIBRATED, _JOINT):
        if len(right) != 1:
            raise AskedError("several answers", f"{where} has {len(right)} right references")
        item = Item(instance["id"], fields, choices, right[0])
    else:
        if not right:
            raise AskedError("no answer", f"{where} has no right reference")
        item = Item(instance["id"], fields, target=choices[right[0]])
    prompt = part(part(group[0], "request", dict, where), "prompt", str, f"{where}, request")
    if method in (_ORIGINAL, _CALIBRATED):
        scores = _scores(group, choices, where, calibrated=method == _CALIBRATED)
        outcome = Outcome(predictions([scores])[0], scores)
        return Asked(item, question, outcome, None)
    text = part(_completion(group[0], where), "text", str, where)
    found = -1
    if method == _JOINT:
        # HELM looks the stripped answer up, and takes any other answer for a wrong one.
        named = part(group[0], "output_mapping", dict, where).get(text.strip())
        found = choices.index(named) if named in choices else -1
    return Asked(item, prompt, Outcome(found, None, text), None)


def _text(reference: Any, where: str) -> str:
    return str(part(part(reference, "output", dict, where), "text", str, f"{where}, references"))


def _completion(request: Any, where: str) -> dict[str, Any]:
    result = part(request, "result", dict, where)
    completions = part(result, "completions", list, f"{where}, result")
    if not result.get("success", True) or not completions or not isinstance(completions[0], dict):
        raise AskedError("no result", f"{where}: {str(result.get('error'))[:60]}")
    return completions[0]


def _scores(
    group: list[Any], choices: tuple[str, ...], where: str, *, calibrated: bool
) -> tuple[float, ...]:
    found: dict[tuple[int, str], tuple[float, int]] = {}
    for request in group:
        place = part(request, "reference_index", int, where)
        mode = part(request, "request_mode", str, where)
        if not 0 <= place < len(choices) or (place, mode) in found:
            raise AskedError("wrong reference", f"{where} has the reference {place} ({mode})")
        found[place, mode] = _sum(_completion(request, where), choices[place], where)
    scores = []
    for place in range(len(choices)):
        modes = ("original", "calibration") if calibrated else ("original",)
        lacking = [mode for mode in modes if (place, mode) not in found]
        if lacking:
            raise AskedError("lacks a request", f"{where} lacks reference {place} ({lacking[0]})")
        total, count = found[place, "original"]
        scores.append(total - found[place, "calibration"][0] if calibrated else total / count)
    return tuple(scores)


def _sum(completion: dict[str, Any], reference: str, where: str) -> tuple[float, int]:
    """The log-likelihood and number of the last tokens, those that spell the reference."""
    text, total, count = "", 0.0, 0
    for token in reversed(part(completion, "tokens", list, where)):
        logprob = part(token, "logprob", (float, int), f"{where}, tokens")
        if math.isnan(logprob):
            raise AskedError("score is NaN", f"{where} has a token of NaN")
        text = part(token, "text", str, f"{where}, tokens") + text
        total, count = total + logprob, count + 1
        if text.strip().endswith(reference.strip()):
            return total, count
    raise AskedError("no tokens of the reference", f"{where}: the tokens lack {reference[:60]!r}")
