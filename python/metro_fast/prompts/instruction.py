"""An instruction: a template that the fields of an item fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.prompts.item import Item, check_text, strings
from metro_fast.prompts.prompt import Prompt
from metro_fast.prompts.wording import word

__all__ = ["CONTROLS", "KINDS", "SYNTAXES", "Instruction"]

CONTROLS = ("negated", "wrong", "empty")
"""Kinds of instruction that do not ask for the right answer, and enter no average."""

KINDS = ("wording", "negated", "wrong", "empty", "format", "order")
"""Kinds of instruction: wordings, controls, and those that differ from a wording in their format
alone or in the order of the options alone."""

SYNTAXES = ("jinja", "promptsource")
"""How the text is read: as the input alone, or as `input ||| target`, both without outer spaces."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One wording of one kind of task.

    Whether an instruction was seen in training is a property of the pair (instruction, model
    family), never of the instruction alone: a wording from P3 is seen for T0 and not for Alpaca.

    Args:
        id: Name, unique in its set.
        task_type: Kind of task; the instruction applies to tasks of that type.
        text: Jinja2 template over the item's fields and, where no field has that name,
            `item_choices` (a list; also called `choices`), `answer_choices` (those of this
            reading), `options` (these joined by " , "), `letters` (A, B, ... for the item's
            choices) and `lettered` (a line such as "A. yes" for each). It is rendered in a sandbox;
            an unknown name is an error, and newlines at its end are kept.
        seen_by: Model families that were trained with this wording.
        origin: Where the wording comes from (`promptsource`, `flan`, `human`, `generated`, ...).
        style: Form of the wording (`task`, `qa-form`, `open-domain`, `negated`, ...).
        license: License of the wording.
        choices: The choices of this reading: None for those of the item, a list of texts (an empty
            one: the answer is generated freely), or a template over the same names whose text is
            separated by `|||`, as promptsource's `answer_choices` (a blank text: no choices, for
            an item without any). The answer keeps its place among them, unless there is a target.
        kind: One of `KINDS`.
        target: Template of the right answer, where it is not the item's.
        syntax: One of `SYNTAXES`.

    Raises:
        TypeError: If a text is not a string.
        MetroFastError: If the id, task type or text is empty, or kind or syntax is unknown.

    Example:
        >>> item = Item("1", {"word": "good"}, ("praise", "blame"), 0)
        >>> instruction = Instruction("ask", "cls", "{{ word }}: {{ options }}?")
        >>> instruction.render(item).input
        'good: praise , blame?'
        >>> Instruction("negate", "cls", "Is {{ word }} blame?", choices=["no", "yes"]).render(item)
        Prompt(input='Is good blame?', choices=('no', 'yes'), answer=0, target='no', texts=())
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
    choices: tuple[str, ...] | str | None = None
    kind: str = "wording"
    target: str | None = None
    syntax: str = "jinja"

    def __post_init__(self) -> None:
        for label in ("id", "task_type", "text", "origin", "style", "license"):
            value = getattr(self, label)
            if not isinstance(value, str):
                raise TypeError(
                    f"instruction {quoted(self.id)}: {label} is {quoted(value)}; give a string"
                )
            check_text(value, f"instruction {quoted(self.id)}: {label}")
        for label in ("id", "task_type", "text"):
            if not getattr(self, label).strip():
                raise MetroFastError(f"instruction {quoted(self.id)}: {label} is empty")
        where = f"instruction {quoted(self.id)}"
        object.__setattr__(self, "seen_by", strings(self.seen_by, f"{where}: seen_by"))
        if self.choices is not None and not isinstance(self.choices, str):
            object.__setattr__(self, "choices", strings(self.choices, f"{where}: choices"))
        for label in ("choices", "target"):
            value = getattr(self, label)
            if isinstance(value, str):
                check_text(value, f"{where}: {label}")
            elif label == "target" and value is not None:
                raise TypeError(f"{where}: target is {quoted(value)}; give a string or None")
        for label, known in (("kind", KINDS), ("syntax", SYNTAXES)):
            if getattr(self, label) not in known:
                raise MetroFastError(
                    f"{where}: {label} is {quoted(getattr(self, label))}; give one of "
                    f"{', '.join(known)}"
                )

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 40 else f"{self.text[:39]}…"
        return f"Instruction({self.id!r}, {self.task_type!r}, {text!r})"

    def is_seen_by(self, model_family: str) -> bool:
        """Whether models of that family were trained with this wording."""
        return model_family in self.seen_by

    @property
    def is_control(self) -> bool:
        """Whether the kind is one of `CONTROLS`."""
        return self.kind in CONTROLS

    def render(self, item: Item) -> Prompt:
        """Word an item.

        Args:
            item: The item.

        Returns:
            The input text with the choices and the answer of this reading.

        Raises:
            MissingExtraError: If jinja2 is not installed.
            MetroFastError: If a template is not valid Jinja2, or uses more of it than it may.
            RejectError: If this item cannot be worded: a field is missing, the sandbox refuses an
                expression, the template takes more than its budget of steps and characters, the
                text is blank, the answer is not among the choices, or these are empty, duplicate,
                or not as many as the item's. `render_items` counts these.
        """
        return word(self, item)

    def to_record(self) -> dict[str, Any]:
        """The instruction as plain JSON values; the last four keys only where they are set."""
        record: dict[str, Any] = {
            "id": self.id,
            "task_type": self.task_type,
            "text": self.text,
            "seen_by": list(self.seen_by),
            "origin": self.origin,
            "style": self.style,
            "license": self.license,
        }
        # Files and hashes of instructions without these are what they were before there were any.
        if self.choices is not None:
            record["choices"] = self.choices if isinstance(self.choices, str) else [*self.choices]
        if self.kind != "wording":
            record["kind"] = self.kind
        if self.target is not None:
            record["target"] = self.target
        if self.syntax != "jinja":
            record["syntax"] = self.syntax
        return record
