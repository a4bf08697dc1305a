"""The lines of a file of prompts, in which the texts of items are not spelled again.

20 instructions word the same passage 20 times, and each of their files would pack it again. For 20
tasks of 250 passages of 300 characters these were 11 MB, and are 0.4 MB by references.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from metro_fast._shown import quoted
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts import Item, Prompt, Reject, Rendered

__all__ = ["prompt_lines", "read_prompt_lines"]

# A shorter text is cheaper to pack than the reference to it.
_SHORTEST = 24


def prompt_lines(rendered: Rendered) -> Iterator[dict[str, Any]]:
    """A line for each item: its prompt, or why it has none.

    An input is a text, or a list of texts and references: `["passage"]` is a field of the item,
    `["options", 0]` a value in it, and `[0]` one of the item's choices.

    Args:
        rendered: Items, prompts and rejects.

    Yields:
        Objects of JSON.
    """
    for item, prompt in zip(rendered.items, rendered.prompts, strict=True):
        line: dict[str, Any] = {"id": item.id, "input": _pieces(prompt.input, item)}
        if prompt.choices != item.choices:
            line["choices"] = list(prompt.choices)
        if prompt.texts:
            # The options behind letters are nearly always the item's choices.
            line["texts"] = prompt.texts == item.choices or list(prompt.texts)
        yield line | {"answer": prompt.answer, "target": prompt.target}
    for reject in rendered.rejects:
        yield {"id": reject.item_id, "reject": reject.reason, "detail": reject.detail}


def read_prompt_lines(
    lines: Iterable[Mapping[str, Any]], items: Iterable[Item], path: Path
) -> Rendered:
    """The items, prompts and rejects of lines.

    Args:
        lines: From `prompt_lines`.
        items: The items of the task.
        path: The file, for messages.

    Returns:
        Equal to what was given to `prompt_lines`.

    Raises:
        FormatError: If a line is damaged, or is about another item.
    """
    by_id = {item.id: item for item in items}
    worded, prompts, rejects = [], [], []
    for number, line in enumerate(lines, start=1):
        try:
            item = by_id[line["id"]]
            if "reject" in line:
                rejects.append(Reject(item.id, line["reject"], line["detail"]))
                continue
            choices = tuple(line["choices"]) if "choices" in line else item.choices
            text = _text(line["input"], item)
            texts = line.get("texts", ())
            texts = item.choices if texts is True else tuple(texts)
            prompts.append(Prompt(text, choices, line["answer"], line["target"], texts))
            worded.append(item)
        except (IndexError, KeyError, TypeError, MetroFastError) as error:
            raise FormatError(
                f"{path}:{number} is not a prompt ({type(error).__name__}: {error}); delete the "
                "file and evaluate again"
            ) from error
    return Rendered(tuple(worded), tuple(prompts), tuple(rejects))


def _pieces(text: str, item: Item) -> str | list[Any]:
    texts: dict[str, list[str | int]] = {value: [place] for place, value in enumerate(item.choices)}
    texts |= dict(_texts(item.fields, []))
    longest = sorted((value for value in texts if len(value) >= _SHORTEST), key=lambda v: -len(v))

    def split(rest: str) -> list[Any]:
        for value in longest:
            before, found, after = rest.partition(value)
            if found:
                return [*split(before), texts[value], *split(after)]
        return [rest] if rest else []

    pieces = split(text)
    return text if pieces == [text] else pieces


def _texts(value: Any, path: list[str | int]) -> Iterator[tuple[str, list[str | int]]]:
    """Every text in a value of JSON, with the keys and places that lead to it."""
    if isinstance(value, str):
        yield value, path
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _texts(entry, [*path, key])
    elif isinstance(value, list):
        for place, entry in enumerate(value):
            yield from _texts(entry, [*path, place])


def _text(pieces: Any, item: Item) -> str:
    if isinstance(pieces, str):
        return pieces
    return "".join(piece if isinstance(piece, str) else _at(piece, item) for piece in pieces)


def _at(path: list[str | int], item: Item) -> str:
    value: Any = item.choices if isinstance(path[0], int) else item.fields
    for key in path:
        value = value[key]
    if not isinstance(value, str):
        raise TypeError(f"{path} is not a text of item {quoted(item.id)}")
    return value
