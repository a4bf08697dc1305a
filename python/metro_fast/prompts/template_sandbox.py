"""The environment in which templates are compiled and filled; jinja2 is imported here.

Filters, tests, functions and methods are those named here; all of them count what they take and
give, and none of them gives an iterator, which would do its work where nobody counts.
"""

from __future__ import annotations

import functools
import types
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jinja2
from jinja2.filters import do_round
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace, htmlsafe_json_dumps

from metro_fast._shown import shown
from metro_fast.prompts.prompt import TemplateFailure
from metro_fast.prompts.template_budget import BITS, rendering, size, spend, text_of, weigh
from metro_fast.prompts.template_rules import parse

__all__ = ["compile_template"]

_METHODS = (
    "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit "
    "islower isnumeric isspace istitle isupper join lower lstrip partition removeprefix "
    "removesuffix replace rfind rindex rpartition rsplit rstrip split splitlines startswith strip "
    "swapcase title upper"
)
_LOOP = "cycle depth depth0 first index index0 last length nextitem previtem revindex revindex0"
_ATTRIBUTES: tuple[tuple[type, frozenset[str]], ...] = (
    (str, frozenset(_METHODS.split())),
    (list, frozenset({"count", "index"})),
    (tuple, frozenset({"count", "index"})),
    (dict, frozenset({"get", "items", "keys", "values"})),
    (LoopContext, frozenset(_LOOP.split())),
)
# Filters of jinja2: those that print what they are given, that go through it, and the others.
_PRINTING = "capitalize lower replace title trim upper wordcount"
_WALKING = "dictsort list map max min reject rejectattr select selectattr sort unique"
_TAKING = "abs count d default first float int items last length reverse truncate"
_PLACES = 300  # a float has no more
_TESTS = (
    "== != < <= > >= boolean defined divisibleby eq equalto even false float ge greaterthan gt "
    "integer iterable le lessthan lower lt mapping ne none number odd sequence string true "
    "undefined upper"
)


def compile_template(text: str) -> jinja2.Template:
    """Compile a template.

    Raises:
        TemplateSyntaxError: If it is not Jinja2.
        TemplateRefusal: If it uses something that is not allowed.
        RecursionError, SyntaxError, ValueError: If it is nested deeper than Jinja2 can parse, or
            has a number of too many digits.
    """
    environment = _environment()
    return environment.from_string(parse(environment, text, *_public(environment)))


class _Sandbox(ImmutableSandboxedEnvironment):
    """A sandbox with an allow-list of attributes and calls, whose arithmetic is bounded."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        for kind, names in _ATTRIBUTES:
            if isinstance(obj, kind):
                return attr in names
        return isinstance(obj, Namespace) and not attr.startswith("_")

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        return self.undefined(
            f"access to attribute {shown(attribute)!r} of {type(obj).__name__!r} object is unsafe; "
            "docs/prompts.md lists what a template may use",
            exc=SecurityError,
        )

    def call_filter(self, name: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(name, str) and name.startswith(" "):  # asked for by `map`
            raise jinja2.TemplateRuntimeError(f"No filter named {name!r}.")
        return super().call_filter(name, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, int | float) and isinstance(right, int | float):
            both = isinstance(left, int) and isinstance(right, int)
            if operator == "*" and both and left.bit_length() + right.bit_length() > BITS:
                raise TemplateFailure("over a limit", f"a product has more than {BITS:,} bits")
        elif operator == "*":
            for one, times in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple) and isinstance(times, int):
                    spend(*(each * times for each in size(one)))
                    return one * times
        elif operator == "%" and isinstance(left, str):
            raise SecurityError("a text may not be formatted by %; join the parts by ~")
        result = super().call_binop(context, operator, left, right)
        weigh(result)
        return result

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("_loop_vars", None)  # Jinja hands these to functions that ask for its context
        for value in (*args, *kwargs.values()):
            weigh(value)
        if isinstance(function, jinja2.Undefined):
            return function()  # raises
        if any(function is known for known in _FUNCTIONS.values()):
            spend(sum(len(one) for one in args if isinstance(one, str)), 0)
        else:
            owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
            if not isinstance(
                function, types.BuiltinMethodType | types.MethodType
            ) or not self.is_safe_attribute(owner, name, function):
                raise SecurityError(f"a value of type {type(function).__name__} is not callable")
            if isinstance(owner, str):
                _weigh_method(owner, name, args)
            elif isinstance(owner, list | tuple):
                weigh(owner)
        result = function(*args, **kwargs)
        if isinstance(function, types.BuiltinMethodType) and hasattr(result, "isdisjoint"):
            result = list(result)  # a view of a dictionary
        if not isinstance(result, Namespace):
            weigh(result)
        return result


def _weigh_method(text: str, name: str, args: Sequence[Any]) -> None:
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


def _counted(
    function: Callable[..., Any], *, prints: bool = False, walks: bool = False
) -> Callable[..., Any]:
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
            _weigh_method(value, function.__name__.removeprefix("do_"), others)
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


def _public(environment: jinja2.Environment) -> tuple[list[str], list[str]]:
    """Names of the filters and tests that templates may use."""
    names = (list(environment.filters), list(environment.tests))
    return tuple([one for one in each if " " not in one] for each in names)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = _Sandbox(
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # prompts are not HTML: it would turn an apostrophe into &#39;
        keep_trailing_newline=True,  # "Answer:\n" is another prompt than "Answer:"
        optimized=False,  # constants would be computed by the compiler, where nothing counts
        finalize=_print,
    )
    own = {"choice": _choice, "join": _join, "most_frequent": _most_frequent, "sum": _sum}
    filters = environment.filters
    environment.filters = {
        **{name: _counted(filters[name], prints=True) for name in _PRINTING.split()},
        **{name: _counted(filters[name], walks=True) for name in _WALKING.split()},
        **{name: _counted(function, walks=True) for name, function in own.items()},
        **{name: _counted(filters[name]) for name in _TAKING.split()},
        "round": _counted(_round), "string": text_of, "tojson": _counted(_tojson),
        " each": _each, " size": _size, " text": _concatenate, " in": _contains,
        " not in": lambda one, others: not _contains(one, others),
    }  # fmt: skip
    tests = environment.tests
    environment.tests = {name: _counted(tests[name]) for name in _TESTS.split()}
    environment.tests["in"] = _contains
    environment.globals = dict(_FUNCTIONS)
    return environment


@jinja2.pass_context  # so the compiler cannot call it
def _print(context: Any, value: Any) -> str:
    return text_of(value)


def _each(values: Any, steps: int, characters: int) -> Any:
    """What a loop goes through, spent before its first round."""
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
    values = _mapped(context, values, attribute)
    texts = [text_of(one) for one in values]
    spend(0, len(d := text_of(d)) * len(texts))
    return d.join(texts)


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


def _round(value: Any, precision: int = 0, method: Any = "common") -> float:
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


_FUNCTIONS: dict[str, Any] = {"range": _range, "zip": _zip, "dict": dict, "namespace": Namespace}
