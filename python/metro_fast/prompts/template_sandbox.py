"""The environment in which templates are compiled and filled; jinja2 is imported here."""

from __future__ import annotations

import functools
import types
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from metro_fast._shown import quoted
from metro_fast.prompts.prompt import TemplateFailure
from metro_fast.prompts.template_budget import BITS, size, spend, text_of, weigh
from metro_fast.prompts.template_filters import FUNCTIONS, filters, public, tests, weigh_method
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


def compile_template(text: str) -> jinja2.Template:
    """Compile a template.

    Raises:
        TemplateSyntaxError: If it is not Jinja2.
        TemplateRefusal: If it uses something that is not allowed.
        RecursionError, SyntaxError, ValueError: If it is nested deeper than Jinja2 can parse, or
            has a number of too many digits.
    """
    environment = _environment()
    names = public(environment.filters), public(environment.tests)
    return environment.from_string(parse(environment, text, *names))


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
            f"access to attribute {quoted(attribute)} of {quoted(type(obj).__name__)} object is "
            "unsafe; docs/prompts.md lists what a template may use",
            exc=SecurityError,
        )

    def call_filter(self, name: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(name, str) and name.startswith(" "):  # asked for by `map`
            raise jinja2.TemplateRuntimeError(f"No filter named {quoted(name)}.")
        return super().call_filter(name, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, int | float) and isinstance(right, int | float):
            bits = sum(one.bit_length() for one in (left, right) if isinstance(one, int))
            if operator == "*" and bits > BITS:
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
        if any(function is known for known in FUNCTIONS.values()):
            spend(sum(len(one) for one in args if isinstance(one, str)), 0)
        else:
            owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
            if not isinstance(
                function, types.BuiltinMethodType | types.MethodType
            ) or not self.is_safe_attribute(owner, name, function):
                raise SecurityError(f"a value of type {type(function).__name__} is not callable")
            if isinstance(owner, str):
                weigh_method(owner, name, (*args, *kwargs.values()))
            elif isinstance(owner, list | tuple):
                weigh(owner)
        result = function(*args, **kwargs)
        if isinstance(function, types.BuiltinMethodType) and hasattr(result, "isdisjoint"):
            result = list(result)  # a view of a dictionary
        if not isinstance(result, Namespace):
            weigh(result)
        return result


@functools.cache
def _environment() -> jinja2.Environment:
    environment = _Sandbox(
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # prompts are not HTML: it would turn an apostrophe into &#39;
        keep_trailing_newline=True,  # "Answer:\n" is another prompt than "Answer:"
        optimized=False,  # constants would be computed by the compiler, where nothing counts
        finalize=_print,
    )
    environment.filters = filters(environment.filters)
    environment.tests = tests(environment.tests)
    environment.globals = dict(FUNCTIONS)
    return environment


@jinja2.pass_context  # so the compiler cannot call it
def _print(context: Any, value: Any) -> str:
    return text_of(value)
