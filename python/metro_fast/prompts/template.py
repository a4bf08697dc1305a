"""Jinja2 templates of strangers: strict about names, bounded, and the same words on every run."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast._shown import shown
from metro_fast.errors import MetroFastError
from metro_fast.prompts.item import check_text
from metro_fast.prompts.prompt import TemplateFailure, TemplateRefusal

if TYPE_CHECKING:
    import jinja2

__all__ = ["TemplateFailure", "check_template", "fill"]

# Most characters of a message of jinja2 or Python, which may quote the template or a field.
_MESSAGE = 300


def check_template(text: str, where: str) -> None:
    """Refuse a text that is not a template, or uses more of Jinja2 than an instruction may.

    Args:
        text: The template.
        where: Whose template it is, for the message.

    Raises:
        MissingExtraError: If jinja2 is not installed.
        MetroFastError: If it is not valid Jinja2, is not allowed, or holds half of a surrogate
            pair; the message names the line.
    """
    _checked(text, where)


def fill(text: str, values: Mapping[str, Any], *, where: str, key: str) -> str:
    """Fill a template.

    Args:
        text: The template.
        values: What its names stand for.
        where: Whose template it is, for the message of a syntax error.
        key: Seed of the filter `choice`: equal keys and texts draw equally.

    Returns:
        The text; a newline at its end is kept.

    Raises:
        MissingExtraError: If jinja2 is not installed.
        MetroFastError: If `check_template` refuses the text.
        TemplateFailure: If a name is unknown, an expression fails, the sandbox refuses it, it
            takes more than its budget of steps and characters, or the result is not Unicode.
    """
    template = _checked(text, where)
    jinja2 = require("jinja2", "eval")
    from metro_fast.prompts.template_budget import Budget, rendering

    token = rendering.set(Budget(f"{key}\0{text}"))
    try:
        filled = template.render(values)
    except jinja2.UndefinedError as error:
        raise TemplateFailure("undefined field", shown(str(error), _MESSAGE)) from error
    except (
        jinja2.TemplateError,
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        # Python errors in the template's expressions, and everything that the sandbox refuses.
        detail = f"{type(error).__name__}: {shown(str(error), _MESSAGE)}"
        raise TemplateFailure("failing expression", detail) from error
    finally:
        rendering.reset(token)
    try:
        check_text(filled, "the text")
    except MetroFastError as error:
        raise TemplateFailure("failing expression", str(error)) from error
    return filled


def _checked(text: str, where: str) -> jinja2.Template:
    jinja2 = require("jinja2", "eval")
    try:
        return _compile(text)
    except jinja2.TemplateSyntaxError as error:
        raise MetroFastError(
            f"{where}: line {error.lineno} is not valid Jinja2 ({shown(str(error), _MESSAGE)})"
        ) from error
    except TemplateRefusal as error:
        raise MetroFastError(f"{where}: {error}") from error
    except RecursionError as error:
        raise MetroFastError(f"{where}: its expressions or blocks are nested too deep") from error
    except ValueError as error:
        raise MetroFastError(f"{where}: it has a number of more than 4,300 digits") from error
    except SyntaxError as error:  # Jinja made Python of it that Python refuses
        raise MetroFastError(
            f"{where} is not valid Jinja2 ({shown(str(error), _MESSAGE)})"
        ) from error


@functools.lru_cache(maxsize=4096)
def _compile(text: str) -> jinja2.Template:
    """Compile a template once, since a task renders it for every item."""
    from metro_fast.prompts.template_sandbox import compile_template

    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TemplateRefusal(None, f"is not valid Unicode text: {error}") from error
    return compile_template(text)
