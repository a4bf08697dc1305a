"""Sections of settings: mappings become dataclasses, with every name and type checked."""

import dataclasses
import difflib
import types
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from metro_fast._ranges import check_choice
from metro_fast._shown import quoted
from metro_fast._yaml import parse_yaml
from metro_fast.errors import FormatError, MetroFastError

T = TypeVar("T")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_READABLE = {
    Path: "a path",
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list[str]: "a list of texts",
}
_MISS = object()


class Section:
    """A base of the dataclasses of settings: their text holds only what differs from a default."""

    def __repr__(self) -> str:
        changed = [
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if value != default(self, name)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"


_USUAL = {
    "accumulation": "gradient_accumulation_steps",
    "batch": "per_device_train_batch_size",
    "batch_size": "per_device_train_batch_size",
    "epochs": "num_train_epochs",
    "eval_batch_size": "per_device_eval_batch_size",
    "layers": "num_layers",
    "lr": "learning_rate",
    "max_length": "block_size",
    "model": "init",
    "model_name_or_path": "init",
    "num_epochs": "num_train_epochs",
    "output_dir": "output",
    "resume_from_checkpoint": "resume",
    "scheduler": "lr_scheduler_type",
    "seq_length": "block_size",
    "steps": "max_steps",
    "train_batch_size": "per_device_train_batch_size",
    "warmup": "warmup_steps",
    "workers": "num_workers",
}
"""Names that other programs give to settings, and the settings."""


def default(section: Any, name: str) -> Any:
    """The default of a setting, or None if it has to be given."""
    field = next(field for field in dataclasses.fields(section) if field.name == name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def read_section(kind: type[T], given: Any, name: str, elsewhere: Mapping[str, str]) -> T:
    """Make a section of settings from a mapping, or check the type of one that is made already.

    Args:
        kind: A dataclass; its fields are the settings.
        given: An object of that class, or a mapping of names (spelled with `-` or `_`) to values.
            Texts are converted to numbers and truth values where these are expected.
        name: Name of the section, for messages.
        elsewhere: Explanations of names that a user may expect here, but that are not settings.

    Raises:
        MetroFastError: If a setting is unknown or missing; the message names similar ones.
        TypeError: If a value has the wrong type, or `given` is neither.

    Example:
        >>> @dataclasses.dataclass
        ... class Data:
        ...     block_size: int = 512
        >>> read_section(Data, {"block-size": "64"}, "data", {})
        Data(block_size=64)
        >>> read_section(Data, {"block_sise": 64}, "data", {})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        metro_fast._core.MetroFastError: data.block_sise is not a setting: did you ...
    """
    if isinstance(given, kind):
        return given
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = {}
    for key, value in as_mapping(given, name).items():
        if key not in fields:
            raise unknown(
                f"{name}.{key}", [f"{name}.{field}" for field in fields], elsewhere.get(key)
            )
        values[key] = convert(value, hints[key], f"{name}.{key}")
    for key, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and key not in values:
            raise MetroFastError(f"{name}.{key} is not given, and has no default: set it")
    return kind(**values)


def as_mapping(given: Any, name: str) -> dict[str, Any]:
    """A mapping of setting names, spelled with `_`, to values; None is an empty one.

    Raises:
        TypeError: If it is anything else.
        MetroFastError: If a name occurs in both spellings.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise TypeError(f"{name} is {quoted(given)}, expected a section of settings, name: value")
    spelled = {key.replace("-", "_"): value for key, value in given.items()}
    if len(spelled) < len(given):
        raise MetroFastError(f"{name} holds a setting spelled both with - and with _: keep one")
    return spelled


def similar(name: str, choices: Collection[str]) -> list[str]:
    """The settings that a wrong name may stand for, the likeliest first.

    Args:
        name: The name, perhaps with a section.
        choices: The names of the settings, perhaps with theirs.

    Returns:
        Those of the same name in another section, or else the one that other programs call so, or
        else up to two of similar names.

    Example:
        >>> similar("training.lr", ["training.tf32", "training.learning_rate"])
        ['training.learning_rate']
    """
    last = name.rpartition(".")[2]
    same = [choice for choice in choices if choice.rpartition(".")[2] == last]
    usual = [choice for choice in choices if choice.rpartition(".")[2] == _USUAL.get(last)]
    tails = {choice.rpartition(".")[2]: choice for choice in choices}
    close = difflib.get_close_matches(last, tails, n=2, cutoff=0.7)
    return same or usual or [tails[tail] for tail in close]


def unknown(name: str, known: Iterable[str], why: str | None = None) -> MetroFastError:
    """The error for a setting that there is not: why, or else similar names, or all of them."""
    if why is not None:
        return MetroFastError(f"{name} {why}")
    choices = list(known)
    near = similar(name, choices)
    if near:
        return MetroFastError(f"{name} is not a setting: did you mean {' or '.join(near)}?")
    if len(choices) > 40:
        return MetroFastError(f"{name} is not a setting, and none has a similar name")
    return MetroFastError(f"{name} is not a setting, expected one of {', '.join(choices)}")


def convert(value: Any, hint: Any, name: str) -> Any:
    """Check that a value has a type, after converting text as YAML and flags give it.

    Args:
        value: The value.
        hint: A type, as in an annotation.
        name: The setting, for the message.

    Raises:
        MetroFastError: If it is not one of the values of a `Literal`.
        TypeError: If it does not have the type.

    Example:
        >>> convert("4e-4", float, "training.learning_rate")
        0.0004
        >>> convert("many", int, "training.max_steps")
        Traceback (most recent call last):
        ...
        TypeError: training.max_steps is 'many', expected a whole number
    """
    found = _converted(value, hint)
    if found is _MISS and get_origin(hint) is Literal:
        check_choice(get_args(hint), **{name: value})
    if found is _MISS:
        raise TypeError(f"{name} is {quoted(value)}, expected {readable(hint)}")
    return found


def readable(hint: Any) -> str:
    """A type as users read it: "a number", "'a' or 'b'", "a path or None"."""
    if get_origin(hint) is Literal:
        return " or ".join(repr(choice) for choice in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(readable(part) for part in get_args(hint))
    if hint is type(None):
        return "None"
    if hint in _READABLE:
        return _READABLE[hint]
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _converted(value: Any, hint: Any) -> Any:
    """The value as the type wants it, or `_MISS`."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        return value if value in parts else _MISS
    if origin in (Union, types.UnionType):
        return _one_of(value, parts)
    if origin in (list, tuple, dict, Mapping) or hint in (list, tuple, dict):
        return _container(value, origin or hint, parts)
    if hint is type(None):
        return None if value is None or value in ("none", "null", "None") else _MISS
    if hint is bool:
        return _WORDS.get(value.lower(), _MISS) if isinstance(value, str) else _as(value, bool)
    if hint in (int, float):
        return _number(value, hint)
    if hint is Path:
        return Path(value) if isinstance(value, str | Path) else _MISS
    if isinstance(hint, type) and issubclass(hint, Enum):
        return value if isinstance(value, hint) else _MISS
    return _as(value, hint)


def _as(value: Any, kind: type) -> Any:
    return value if isinstance(value, kind) else _MISS


def _one_of(value: Any, parts: tuple[Any, ...]) -> Any:
    if type(value) in parts and not (isinstance(value, str) and value.startswith("[")):
        return value  # a text stays a text where one is allowed, unless it is a list in YAML
    for part in sorted(parts, key=lambda part: part is str):
        found = _converted(value, part)
        if found is not _MISS:
            return found
    return _MISS


def _number(value: Any, kind: type) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return _MISS
    try:
        number = float(value)
        if kind is float:
            return number
        # An int beyond 2^53 does not survive a float.
        return int(value) if not isinstance(value, float) and _is_whole(value) else _whole(number)
    except (ValueError, OverflowError):
        return _MISS


def _is_whole(value: int | str) -> bool:
    return isinstance(value, int) or value.strip().lstrip("+-").isdecimal()


def _whole(number: float) -> Any:
    return int(number) if number.is_integer() else _MISS


def _container(value: Any, kind: Any, parts: tuple[Any, ...]) -> Any:
    if isinstance(value, str):
        try:
            value = parse_yaml(value, "the value")
        except FormatError:
            return _MISS
    if kind in (dict, Mapping):
        return dict(value) if isinstance(value, Mapping) else _MISS
    if kind is list and isinstance(value, str | int | float):
        value = [value]  # YAML and flags may give one value where several are allowed
    if not isinstance(value, list | tuple):
        return _MISS
    element = parts[0] if parts else Any
    found = [_converted(each, element) for each in value]
    return _MISS if any(each is _MISS for each in found) else kind(found)
