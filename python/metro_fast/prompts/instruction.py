"""An instruction: a template that the fields of an item fill."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.prompts.item import Item, check_text, strings

if TYPE_CHECKING:
    import jinja2

__all__ = ["Instruction"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One wording of one kind of task.

    Whether an instruction was seen in training is a property of the pair (instruction, model
    family), never of the instruction alone: a wording from P3 is seen for T0 and not for Alpaca.

    Args:
        id: Name, unique in its set.
        task_type: Kind of task; the instruction applies to tasks of that type.
        text: Jinja2 template over the item's fields, `choices` (list) and `options` (the choices
            joined by " , "). It is rendered in a sandbox; an unknown name is an error.
        seen_by: Model families that were trained with this wording.
        origin: Where the wording comes from (`promptsource`, `flan`, `human`, `generated`, ...).
        style: Form of the wording (`task`, `qa-form`, `open-domain`, `negated`, ...).
        license: License of the wording.

    Raises:
        TypeError: If a text is not a string.
        MetroFastError: If the id, task type or text is empty.

    Example:
        >>> item = Item("1", {"word": "good"}, ("praise", "blame"), 0)
        >>> instruction = Instruction("ask", "cls", "{{ word }}: {{ options }}?")
        >>> instruction.render(item)
        'good: praise , blame?'
        >>> instruction
        Instruction('ask', 'cls', '{{ word }}: {{ options }}?')
    """

    id: str
    task_type: str
    text: str
    seen_by: tuple[str, ...] = ()
    origin: str = "human"
    style: str = "task"
    license: str = ""

    def __post_init__(self) -> None:
        for label in ("id", "task_type", "text", "origin", "style", "license"):
            value = getattr(self, label)
            if not isinstance(value, str):
                raise TypeError(f"instruction {self.id!r}: {label} is {value!r}; give a string")
            check_text(value, f"instruction {self.id!r}: {label}")
        for label in ("id", "task_type", "text"):
            if not getattr(self, label).strip():
                raise MetroFastError(f"instruction {self.id!r}: {label} is empty")
        where = f"instruction {self.id!r}: seen_by"
        object.__setattr__(self, "seen_by", strings(self.seen_by, where))

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 40 else f"{self.text[:39]}…"
        return f"Instruction({self.id!r}, {self.task_type!r}, {text!r})"

    def is_seen_by(self, model_family: str) -> bool:
        """Whether models of that family were trained with this wording."""
        return model_family in self.seen_by

    def render(self, item: Item) -> str:
        """Fill the template with an item.

        Args:
            item: The template may use its fields, `choices` and `options`.

        Returns:
            The input text for the model.

        Raises:
            MissingExtraError: If jinja2 is not installed.
            MetroFastError: If the template is not valid Jinja2, names a field that the item lacks
                (the message gives the instruction, the field and the item), does something that
                the sandbox forbids, or renders to blank text.
        """
        jinja2 = require("jinja2", "eval")
        where = f"instruction {self.id!r}, item {item.id!r}"
        try:
            text = _compile(self.text).render(
                {**item.fields, "choices": list(item.choices), "options": " , ".join(item.choices)}
            )
        except jinja2.TemplateSyntaxError as error:
            raise MetroFastError(
                f"instruction {self.id!r}: line {error.lineno} is not valid Jinja2 ({error})"
            ) from error
        except jinja2.UndefinedError as error:
            known = ", ".join(sorted(item.fields))
            raise MetroFastError(
                f"{where}: {error}; use the item's fields {known}, or choices or options"
            ) from error
        except (
            jinja2.TemplateError,
            ArithmeticError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            # Python errors in the template's expressions, and everything that the sandbox refuses.
            raise MetroFastError(f"{where}: {type(error).__name__}: {error}") from error
        if not text.strip():
            raise MetroFastError(
                f"{where}: the rendered text is blank; give the template words outside of its "
                "conditions"
            )
        return text

    def to_record(self) -> dict[str, Any]:
        """The instruction as plain JSON values."""
        return {
            "id": self.id,
            "task_type": self.task_type,
            "text": self.text,
            "seen_by": list(self.seen_by),
            "origin": self.origin,
            "style": self.style,
            "license": self.license,
        }


@functools.lru_cache(maxsize=1024)
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
    # Prompts are not HTML: autoescape would turn an apostrophe into &#39;.
    environment: jinja2.Environment = Sandbox(undefined=undefined, autoescape=False)
    return environment
