"""Inspect's logs, `.eval` and `.json`, read into cells."""

import os
import string
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metro_fast._json import parse_json
from metro_fast.errors import FormatError
from metro_fast.prompts import Item
from metro_fast.robustness.doors.archive import read_member
from metro_fast.robustness.doors.foreign import Asked, AskedError, ForeignRead, Gathering, part
from metro_fast.scoring import Outcome, match_label

__all__ = ["read_inspect"]

_VERDICTS = {"C": True, "I": False, 1: True, 0: False}


def read_inspect(
    path: str | os.PathLike[str], *, scorer: str | None = None, split: str = "test"
) -> ForeignRead:
    """Read the samples of one log of Inspect.

    The choice is the letter that the scorer found in the answer; without one, the choice that the
    written answer names. Samples without choices keep their text alone.

    Args:
        path: A log in either format.
        scorer: The scorer whose verdict counts, if a sample has several; by default the first one.
        split: Part of the data, which the log does not hold.

    Returns:
        The cell and the report. Rejects are later epochs of a sample, samples that ended in an
        error or have several right answers, and those whose verdict contradicts their letters.

    Raises:
        FileNotFoundError: If the file is absent.
        FormatError: If it is damaged, is not a log of Inspect, or has no sample that can be read.
        MissingExtraError: If it is packed by Zstandard, as newer logs are, and pyarrow is not
            installed.

    Example:
        >>> found = read_inspect("logs/2026-01-01_arc_x.eval")  # doctest: +SKIP
        >>> print(found.report)  # doctest: +SKIP
        logs/2026-01-01_arc_x.eval: 250 of 250 taken
    """
    path = Path(path)
    if zipfile.is_zipfile(path):
        header, samples = _zipped(path)
    else:
        log = parse_json(path.read_bytes(), path, not_finite=True)
        header = log if isinstance(log, dict) else {}
        samples = ((str(n), s) for n, s in enumerate(_list(header, path)))
    try:
        run = part(header, "eval", dict, str(path))
        task, model = (part(run, key, str, f"{path}, eval") for key in ("task", "model"))
    except AskedError as error:
        raise FormatError(f"{path} is not a log of Inspect: {error}") from error
    gathering = Gathering(path)
    for name, sample in samples:
        where = f"sample {name}"
        gathering.add(where, lambda s=sample, w=where: _asked(s, w, scorer))  # type: ignore[misc]
    return gathering.finish(harness="inspect", model_name=model, task=task, split=split)


def _list(header: dict[str, Any], path: Path) -> list[Any]:
    found = header.get("samples") or []
    if not isinstance(found, list):
        raise FormatError(f"{path} is not a log of Inspect: samples is a {type(found).__name__}")
    return found


def _zipped(path: Path) -> tuple[dict[str, Any], Iterator[tuple[str, Any]]]:
    """The header of a log and its samples, of which one at a time is in memory."""

    def read(name: str) -> Any:
        return parse_json(read_member(path, name), f"{path}/{name}", not_finite=True)

    header = read("header.json")
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if n.startswith("samples/") and n.endswith(".json")]
    found = ((Path(name).stem, read(name)) for name in dict.fromkeys(names))
    return header if isinstance(header, dict) else {}, found


def _asked(sample: Any, where: str, scorer: str | None) -> Asked:
    item_id = str(part(sample, "id", (str, int), where))
    if part(sample, "epoch", int, where) != 1:
        raise AskedError("a later epoch", f"{where} has the epoch {sample['epoch']}")
    if sample.get("error"):
        raise AskedError("ended in an error", f"{where}: {str(sample['error'])[:60]}")
    text = _input(sample, where)
    written = _completion(sample, where)
    score = _score(sample, where, scorer)
    value = score.get("value")
    correct = _VERDICTS.get(value) if isinstance(value, str | int | float) else None
    targets = part(sample, "target", (str, list), where)
    if isinstance(targets, list):
        if len(targets) != 1 or not isinstance(targets[0], str):
            raise AskedError("several answers", f"{where}: the target is {str(targets)[:60]}")
        targets = targets[0]
    metadata = sample.get("metadata")
    fields = dict(metadata) if isinstance(metadata, dict) else {}
    fields["input"] = _question(sample, text)
    if not sample.get("choices"):
        item = Item(item_id, fields, target=targets)
        return Asked(item, text, Outcome(-1, None, written), correct)
    choices = part(sample, "choices", list, where)
    place = _letter(targets, len(choices))
    if place < 0:
        raise AskedError("no answer among the choices", f"{where}: the target is {targets[:60]!r}")
    item = Item(item_id, fields, choices, place)
    answer = score.get("answer")
    found = _letter(answer.strip(), len(choices)) if isinstance(answer, str) else -1
    if found < 0 and not (isinstance(answer, str) and answer.strip()):
        found = match_label(written, choices)
    return Asked(item, text, Outcome(found, None, written), correct)


def _letter(text: str, count: int) -> int:
    """The place of the choice that a letter stands for; -1 for any other text."""
    place = string.ascii_uppercase.find(text) if len(text) == 1 else -1
    return place if place < count else -1


def _content(message: Any, where: str) -> str:
    """The text of a message, whose content is a text or a list of parts."""
    content = part(message, "content", (str, list), where)
    if isinstance(content, str):
        return content
    return "".join(
        entry["text"]
        for entry in content
        if isinstance(entry, dict) and isinstance(entry.get("text"), str)
    )


def _input(sample: Any, where: str) -> str:
    """The last text that the model read, as the solver worded it."""
    messages = sample.get("messages")
    if isinstance(messages, list):
        asked = [m for m in messages if isinstance(m, dict) and m.get("role") == "user"]
        if asked:
            return _content(asked[-1], f"{where}, messages")
    return _question(sample, "") or part(sample, "input", str, where)


def _question(sample: Any, otherwise: str) -> str:
    """The sample's own input, before the solver worded it."""
    found = sample.get("input")
    if isinstance(found, str):
        return found
    texts = [_content(message, "input") for message in found] if isinstance(found, list) else []
    return "\n".join(texts) or otherwise


def _completion(sample: Any, where: str) -> str:
    output = part(sample, "output", dict, where)
    if isinstance(output.get("completion"), str):
        return str(output["completion"])
    choices = part(output, "choices", list, f"{where}, output")
    if not choices:
        raise AskedError("no answer", f"{where}: the output is empty")
    return _content(part(choices[0], "message", dict, f"{where}, output"), f"{where}, output")


def _score(sample: Any, where: str, scorer: str | None) -> dict[str, Any]:
    scores = sample.get("scores")
    if not isinstance(scores, dict) or not scores:
        return {}
    name = next(iter(scores)) if scorer is None else scorer
    found = part(scores, name, dict, f"{where}, scores")
    return dict(found)
