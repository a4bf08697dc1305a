"""How an instruction words an item: its template filled, its choices found, its answer placed."""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any, Protocol

from metro_fast._shown import quoted, shown
from metro_fast.prompts.item import Item
from metro_fast.prompts.prompt import Prompt, Reject, RejectError
from metro_fast.prompts.template import TemplateFailure, fill

__all__ = ["letters", "word"]

_SEPARATOR = "|||"
# Each choice is scored by the model; FewRel, which has most of the sets that are read here, has 80.
_CHOICES = 10_000
# Stands for a separator inside of a field, as in promptsource, until the text is split.
_PROTECTED = "\ue000pipes\ue000"


class Wording(Protocol):
    """The parts of an instruction that word an item."""

    @property
    def id(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def choices(self) -> tuple[str, ...] | str | None: ...
    @property
    def target(self) -> str | None: ...
    @property
    def syntax(self) -> str: ...


def word(instruction: Wording, item: Item) -> Prompt:
    """Word an item.

    Args:
        instruction: The wording.
        item: The item.

    Returns:
        The prompt.

    Raises:
        MissingExtraError: If jinja2 is not installed.
        MetroFastError: If the template is not valid Jinja2.
        RejectError: If the instruction cannot word this item.
    """
    where = f"instruction {quoted(instruction.id)}"
    try:
        return _word(instruction, item, where)
    except (TemplateFailure, RecursionError) as error:
        failure = error if isinstance(error, TemplateFailure) else _too_deep()
        names = shown(", ".join(sorted(item.fields)), 300) or "(none)"
        raise RejectError(
            f"{where}, item {quoted(item.id)}: {shown(failure.detail, 500)}; the item has the "
            f"fields {names}, and a template may "
            "also use choices, item_choices, answer_choices, options, letters and lettered",
            Reject(item.id, failure.reason, failure.detail),
        ) from error


def letters(count: int) -> list[str]:
    """Names of options: A to Z, then AA, AB, ...

    Args:
        count: How many options there are.

    Returns:
        As many different names.

    Example:
        >>> letters(28)[-3:]
        ['Z', 'AA', 'AB']
    """
    found = list(ascii_uppercase)
    while len(found) < count:
        # Each name of the row before, followed by each letter.
        found += [a + b for a in found[-(26 ** len(found[-1])) :] for b in ascii_uppercase]
    return found[:count]


def _too_deep() -> TemplateFailure:
    return TemplateFailure("failing expression", "a field holds lists nested some 400 deep")


def _word(instruction: Wording, item: Item, where: str) -> Prompt:
    values = {**_names(item.choices), **_protect(item.fields)}
    values.setdefault("answer_choices", list(item.choices))
    choices = _choices(instruction, item, values, where)
    if instruction.choices is not None:
        values |= {"answer_choices": list(map(_protect, choices))}
        if "options" not in item.fields:
            values["options"] = " , ".join(map(_protect, choices))
    text = fill(instruction.text, values, where=where, key=item.id)
    target = None
    if instruction.syntax == "promptsource":
        count = 1 + text.count(_SEPARATOR)
        if count != 2:
            raise TemplateFailure(
                "no single target",
                f"the text has {count} parts separated by {_SEPARATOR}; give an input and a target",
            )
        text, target = (_unprotect(part).strip() for part in text.split(_SEPARATOR))
    elif instruction.target is not None:
        target = fill(instruction.target, values, where=where, key=item.id)
    text = _unprotect(text)
    if not text.strip():
        raise TemplateFailure(
            "blank input",
            "the rendered text is blank; give the template words outside of its conditions",
        )
    if target is not None and not (target := _unprotect(target)).strip():
        raise TemplateFailure("blank target", "the target is blank")
    if not choices:
        return Prompt(text, (), None, target if target is not None else item.answer_text)
    _check_choices(choices)
    answer = _answer(instruction, item, choices, target)
    return Prompt(text, choices, answer, choices[answer], _texts(item, choices, text))


def _names(choices: Sequence[str]) -> dict[str, Any]:
    """The names that templates may use beside the item's fields, which go before them."""
    protected, names = list(map(_protect, choices)), letters(len(choices))
    return {
        "choices": protected,
        "item_choices": protected,
        "options": " , ".join(protected),
        "letters": names,
        "lettered": "\n".join(f"{a}. {b}" for a, b in zip(names, protected, strict=True)),
    }


def _choices(
    instruction: Wording, item: Item, values: dict[str, Any], where: str
) -> tuple[str, ...]:
    """The choices of this reading; none, if the answer is generated freely."""
    given = instruction.choices
    if given is None:
        return item.choices
    if not isinstance(given, str):
        return given
    text = fill(given, values, where=f"{where}, choices", key=item.id)
    if not text.strip() and not item.choices:
        return ()  # a template over the choices, and an item that is answered by free text
    if (count := 1 + text.count(_SEPARATOR)) > _CHOICES:
        raise TemplateFailure(
            "over a limit", f"the template gives {count:,} choices; give at most {_CHOICES:,}"
        )
    return tuple(_unprotect(choice).strip() for choice in text.split(_SEPARATOR))


def _texts(item: Item, choices: tuple[str, ...], text: str) -> tuple[str, ...]:
    """The options that the letters of this reading are for; none if the choices are texts."""
    if choices == item.choices or choices != tuple(letters(len(item.choices))):
        return ()
    # Readers of relations give each choice a sentence, and a question by letters shows these.
    statements = item.fields.get("statements")
    if not isinstance(statements, list) or len(statements) != len(choices):
        return item.choices
    shown = all(isinstance(one, str) and one in text for one in statements)
    return tuple(statements) if shown else item.choices


def _check_choices(choices: tuple[str, ...]) -> None:
    if len(choices) < 2:
        raise TemplateFailure("fewer than two choices", f"the choices are {quoted(choices)}")
    if not all(choice.strip() for choice in choices):
        raise TemplateFailure("empty choice", f"a choice in {quoted(choices)} is blank")
    if len(set(choices)) < len(choices):
        raise TemplateFailure("duplicate choices", f"a choice is given twice in {quoted(choices)}")


def _answer(instruction: Wording, item: Item, choices: tuple[str, ...], target: str | None) -> int:
    """Index of the right choice: where the target is, or else at the place of the item's answer."""
    if target is None and item.answer is None:
        target = item.target
    if target is not None:
        if target not in choices:
            raise TemplateFailure(
                "no answer among the choices",
                f"the answer {quoted(target)} is not in {quoted(choices)}",
            )
        return choices.index(target)
    assert item.answer is not None
    if len(choices) != len(item.choices):
        raise TemplateFailure(
            "unequal counts",
            f"the instruction gives {len(choices)} choices, but the item has {len(item.choices)}",
        )
    return item.answer


def _protect(value: Any) -> Any:
    """The same JSON value with another spelling of the separator in its texts."""
    if isinstance(value, str):
        return value.replace(_SEPARATOR, _PROTECTED)
    if isinstance(value, list):
        return [_protect(element) for element in value]
    if isinstance(value, dict):
        return {key: _protect(element) for key, element in value.items()}
    return value


def _unprotect(text: str) -> str:
    return text.replace(_PROTECTED, _SEPARATOR)
