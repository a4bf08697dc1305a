"""The filters, tests and functions of templates; jinja2 is imported here.

All of them spend what they take and give. None gives an iterator, which would do its work where
nothing is spent.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jinja2
from jinja2.filters import do_round
from jinja2.utils import Namespace, htmlsafe_json_dumps

from metro_fast.prompts.template_budget import rendering, spend, text_of, weigh

__all__ = ["FUNCTIONS", "filters", "public", "tests", "weigh_method"]

# Filters of jinja2: those that print what they are given, that go through it, and the others.
_PRINTING = "capitalize lower title trim upper wordcount"
_WALKING = "dictsort list map max min reject rejectattr select selectattr sort unique"
_TAKING = "count d default first float int items last length reverse truncate"
_NUMERIC = "divisibleby even odd"
_PLACES = 300  # a float has no more
_TESTS = (
    "== != < <= > >= boolean defined eq equalto false float ge greaterthan gt "
    "integer iterable le lessthan lower lt mapping ne none number sequence string true "
    "undefined upper"
)


def filters(known: dict[str, Any]) -> dict[str, Any]:
    """The filters that templates have.

    Args:
        known: The filters of jinja2.

    Returns:
        The allowed ones, and those by which the compiler counts, whose names begin with a space.
    """
    own = {"choice": _choice, "join": _join, "most_frequent": _most_frequent, "sum": _sum}
    return {
        **{name: _counted(known[name], prints=True) for name in _PRINTING.split()},
        **{name: _counted(known[name], walks=True) for name in _WALKING.split()},
        **{name: _counted(function, walks=True) for name, function in own.items()},
        **{name: _counted(known[name]) for name in _TAKING.split()},
        "abs": _counted(_of_numbers(abs)), "replace": _counted(_replace),
        "round": _counted(_of_numbers(_round)), "string": text_of, "tojson": _counted(_tojson),
        " each": _each, " size": _size, " text": _concatenate, " in": _contains,
        " not in": lambda one, others: not _contains(one, others),
    }  # fmt: skip


def tests(known: dict[str, Any]) -> dict[str, Any]:
    """The tests that templates have, of those of jinja2."""
    numbers = {name: _counted(_of_numbers(known[name])) for name in _NUMERIC.split()}
    return {name: _counted(known[name]) for name in _TESTS.split()} | numbers | {"in": _contains}


def public(names: dict[str, Any]) -> list[str]:
    """The names that templates may spell."""
    return sorted(name for name in names if not name.startswith(" "))


def weigh_method(text: str, name: str, args: Sequence[Any]) -> None:
    """Spend what a method of a text takes, before it takes it."""
    given = [one for one in args if isinstance(one, str)]
    # Python may compare each place of the text with all that it looks for.
    spend(0, len(text) * (1 + max(map(len, given), default=0) // 64))
    if name in ("split", "rsplit", "splitlines"):
        # A part takes some 50 bytes beside its characters.
        spend(text.count(given[0]) if given and given[0] else 0, 4 * len(text))
    elif name == "replace" and len(given) > 1:
        spend(0, text.count(given[0]) * len(given[1]))
    elif name == "join" and args:
        count = len(args[0]) if isinstance(args[0], str | list | tuple | dict) else 0
        spend(count, len(text) * count)


def _counted(function: Any, *, prints: bool = False, walks: bool = False) -> Callable[..., Any]:
    """A filter or test of jinja2 that counts, and gives lists for iterators.

    Args:
        function: The filter.
        prints: Its value is made a text first.
        walks: It goes through its value, perhaps by a path such as a.0.b for each element.
    """
    skip = int(hasattr(function, "jinja_pass_arg"))  # the context or environment comes first

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        value, *others = args[skip:]
        others += kwargs.values()
        for one in others:
            weigh(one)
        if prints:
            value = text_of(value)
            weigh_method(value, function.__name__.removeprefix("do_"), others)
        else:
            weigh(value)
            if walks and hasattr(value, "__len__") and not isinstance(value, jinja2.Undefined):
                texts = [one for one in others if isinstance(one, str)]
                parts = 1 + sum(one.count(".") + one.count(",") for one in texts)
                spend(len(value) * parts, 0)
        result = function(*args[:skip], value, *args[skip + 1 :], **kwargs)
        if hasattr(result, "__next__"):
            result = list(result)
        weigh(result)
        return result

    return call


def _each(values: Any, steps: int, characters: int) -> Any:
    """The elements of a loop, spent before its first round."""
    if isinstance(values, jinja2.Undefined) or not hasattr(values, "__len__"):
        iter(values)  # raises
    spend(len(values) * steps, len(values) * characters)
    return values


def _size(value: Any) -> Any:
    weigh(value)
    return value


def _concatenate(*values: Any) -> str:
    text = "".join(map(text_of, values))
    spend(0, len(text))
    return text


def _contains(one: Any, others: Any) -> bool:
    weigh(one)
    weigh(others)
    if isinstance(one, str) and isinstance(others, str):
        spend(0, len(others) * (len(one) // 64))
    return one in others


@jinja2.pass_context
def _join(context: Any, values: Any, d: Any = "", attribute: Any = None) -> str:
    texts = [text_of(one) for one in _mapped(context, values, attribute)]
    between = text_of(d)
    spend(0, len(between) * len(texts))
    return between.join(texts)


@jinja2.pass_context
def _sum(context: Any, values: Any, attribute: Any = None, start: Any = 0) -> Any:
    if isinstance(start, str):
        raise TypeError("texts have no sum; join them")
    values = _mapped(context, values, attribute)
    add = context.environment.call_binop
    return functools.reduce(lambda total, one: add(context, "+", total, one), values, start)


def _mapped(context: Any, values: Any, attribute: Any) -> Any:
    if attribute is None:
        return values
    given = {"attribute": attribute}
    return context.environment.call_filter("map", values, kwargs=given, context=context)


def _choice(values: Sequence[Any]) -> Any:
    """One of the values; promptsource's own filter draws differently on every run."""
    if not values:
        raise ValueError("choice of an empty sequence")
    return rendering.get().draw.choice(list(values))


def _most_frequent(values: Sequence[Any]) -> list[Any]:
    """The values that occur most often, in the order of their first occurrence."""
    counts = Counter(values).most_common()
    return [value for value, count in counts if count == counts[0][1]]


def _of_numbers(function: Any) -> Callable[..., Any]:
    """The same for numbers alone: by % and *, Python formats and repeats a text."""

    @functools.wraps(function)
    def call(value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, jinja2.Undefined):
            str(value)  # raises
        if not isinstance(value, int | float):
            raise TypeError(f"{function.__name__.strip('_')} of a {type(value).__name__}")
        return function(value, *args, **kwargs)

    return call


def _replace(s: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, replaced, by = text_of(s), text_of(old), text_of(new)
    weigh_method(text, "replace", (replaced, by))
    return text.replace(replaced, by, -1 if count is None else count)


def _round(value: float, precision: int = 0, method: Any = "common") -> float:
    if abs(precision) > _PLACES:
        raise ValueError(f"round to {precision} places; give at most {_PLACES}")
    return do_round(value, precision, method)


def _tojson(value: Any) -> str:
    return str(htmlsafe_json_dumps(value, sort_keys=True))


def _range(*args: int) -> list[int]:
    numbers = range(*args)
    spend(len(numbers), 0)
    return list(numbers)


def _zip(*values: Any, strict: bool = False) -> list[tuple[Any, ...]]:
    return list(zip(*values, strict=strict))


FUNCTIONS: dict[str, Any] = {"range": _range, "zip": _zip, "dict": dict, "namespace": Namespace}
