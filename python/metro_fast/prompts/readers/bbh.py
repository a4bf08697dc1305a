"""Tasks of BIG-Bench-Hard: JSON files of inputs, which may end with options, and targets."""

import os
import re
from pathlib import Path
from typing import Any

from metro_fast._json import parse_json
from metro_fast._memory import read_small
from metro_fast._shown import quoted
from metro_fast.errors import FormatError
from metro_fast.prompts.item import Item
from metro_fast.prompts.readers.read import Collector, Read, RowError

__all__ = ["read_bbh"]

_OPTIONS = re.compile(r"\n\s*Options:[ \t]*\n")
_OPTION = re.compile(r"(?:(\([A-Z]\))|-)[ \t]*(.*)")


def read_bbh(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    task_type: str = "qa",
    split: str = "test",
) -> Read:
    r"""Read one task of BIG-Bench-Hard.

    An input that ends with `Options:` gives an item with choices; any other one is answered by free
    text. Items have the fields `input` (as published), `question` (without the options) and
    `labels` (what the targets are called, such as `(A)`).

    Args:
        path: JSON file with the key `examples`.
        name: Name of the task; by default `bbh_` and the file's stem.
        task_type: Kind of task.
        split: Part of the data.

    Returns:
        The task and the report; an item whose target is not among its options keeps it as the
        target, with a remark.

    Raises:
        FileNotFoundError: If the file is absent.
        FormatError: If it is not such JSON, or no example is an item.

    Example:
        >>> import json
        >>> example = {"input": "Is ice cold?\nOptions:\n- Yes\n- No", "target": "Yes"}
        >>> _ = Path("cold.json").write_text(json.dumps({"examples": [example]}))
        >>> read_bbh("cold.json").task.items[0]
        Item('0', choices=('Yes', 'No'), answer=0)
    """
    path = Path(path)
    content = parse_json(read_small(path), path)
    examples = content.get("examples") if isinstance(content, dict) else None
    if not isinstance(examples, list):
        raise FormatError(f"{path} has no list of examples; give a file of BIG-Bench-Hard")
    collector = Collector(path)
    for number, example in enumerate(examples):
        if not isinstance(example, dict):
            raise FormatError(f"{path}: example {number} is {quoted(example)}; give an object")
        collector.add(f"example {number}", lambda e=example, n=number: _item(str(n), e))  # type: ignore[misc]
    return collector.finish(name or f"bbh_{path.stem}", task_type, split)


def _item(item_id: str, example: dict[str, Any]) -> Item:
    text, target = (str(example.get(key) or "") for key in ("input", "target"))
    if not text.strip() or not target.strip():
        raise RowError("no input or target", repr(example)[:200])
    starts = list(_OPTIONS.finditer(text))
    if not starts:
        return Item(item_id, {"input": text, "question": text, "labels": []}, target=target)
    lines = text[starts[-1].end() :].strip().splitlines()
    options = [_OPTION.fullmatch(line.strip()) for line in lines]
    if not options or None in options:
        raise RowError("options not understood", text[starts[-1].start() :])
    if len(options) < 2:
        raise RowError("fewer than two choices", text[starts[-1].start() :])
    labels = [option[1] or option[2] for option in options if option]
    choices = tuple(option[2] for option in options if option)
    fields = {"input": text, "question": text[: starts[-1].start()], "labels": labels}
    if target.strip() in labels:
        return Item(item_id, fields, choices, labels.index(target.strip()))
    return Item(item_id, fields, choices, None, target=target)
