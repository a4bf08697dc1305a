"""Jinja2 templates in a sandbox: strict about names, and the same words on every run."""

from __future__ import annotations

import contextvars
import functools
import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError

if TYPE_CHECKING:
    import jinja2

__all__ = ["TemplateFailure", "check_template", "fill"]

# Draws of the filter `choice` come from here: one generator for each rendering.
_draw: contextvars.ContextVar[random.Random] = contextvars.ContextVar("draw")


class TemplateFailure(Exception):
    """A template could not be filled: the reason to count it under, and the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def check_template(text: str, where: str) -> None:
    """Refuse a text that is not a template.

    Args:
        text: The template.
        where: Whose template it is, for the message.

    Raises:
        MissingExtraError: If jinja2 is not installed.
        MetroFastError: If it is not valid Jinja2.
    """
    jinja2 = require("jinja2", "eval")
    try:
        _compile(text)
    except jinja2.TemplateSyntaxError as error:
        raise MetroFastError(
            f"{where}: line {error.lineno} is not valid Jinja2 ({error})"
        ) from error


def fill(text: str, values: Mapping[str, Any], *, where: str, key: str) -> str:
    """Fill a template.

    Args:
        text: The template.
        values: What its names stand for.
        where: Whose template it is, for the message of a syntax error.
        key: Seed of the filters `choice` and `random`: equal keys and texts draw equally.

    Returns:
        The text; a newline at its end is kept.

    Raises:
        MissingExtraError: If jinja2 is not installed.
        MetroFastError: If the text is not valid Jinja2.
        TemplateFailure: If a name is unknown, an expression fails, or the sandbox refuses it.
    """
    jinja2 = require("jinja2", "eval")
    check_template(text, where)
    digest = hashlib.sha256(f"{key}\0{text}".encode()).digest()
    token = _draw.set(random.Random(int.from_bytes(digest[:8])))
    try:
        return _compile(text).render(values)
    except jinja2.UndefinedError as error:
        raise TemplateFailure("undefined field", str(error)) from error
    except (
        jinja2.TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        # Python errors in the template's expressions, and everything that the sandbox refuses.
        detail = f"{type(error).__name__}: {error}"
        raise TemplateFailure("failing expression", detail) from error
    finally:
        _draw.reset(token)


@functools.lru_cache(maxsize=4096)
def _compile(text: str) -> jinja2.Template:
    """Compile a template once, since a task renders it for every item."""
    template: jinja2.Template = _environment().from_string(text)
    return template


@functools.cache
def _environment() -> jinja2.Environment:
    sandbox = require("jinja2.sandbox", "eval")

    class Sandbox(sandbox.ImmutableSandboxedEnvironment):  # type: ignore[name-defined, misc]
        """A sandbox that also refuses to multiply: `"a" * 10**11` would take all memory."""

        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            raise sandbox.SecurityError(f"{operator} is not allowed in an instruction")

    undefined = require("jinja2", "eval").StrictUndefined
    environment: jinja2.Environment = Sandbox(
        undefined=undefined,
        autoescape=False,  # prompts are not HTML: it would turn an apostrophe into &#39;
        keep_trailing_newline=True,  # "Answer:\n" is another prompt than "Answer:"
    )
    # The helpers of promptsource.
    environment.globals["zip"] = zip
    environment.filters["choice"] = environment.filters["random"] = _choice
    environment.filters["most_frequent"] = _most_frequent
    return environment


def _choice(values: Sequence[Any]) -> Any:
    """One of the values; jinja's and promptsource's own filters draw differently on every run."""
    if not values:
        raise ValueError("choice of an empty sequence")
    return _draw.get().choice(list(values))


def _most_frequent(values: Sequence[Any]) -> list[Any]:
    """The values that occur most often, in the order of their first occurrence."""
    counts = Counter(values).most_common()
    return [value for value, count in counts if count == counts[0][1]]
