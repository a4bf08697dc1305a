"""Lists of prompts with {placeholders}: FLAN's pairs of patterns, and PromptBench's prompts."""

import os
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metro_fast._json import parse_json
from metro_fast._memory import read_small
from metro_fast._shown import quoted
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts.importers.imported import Imported
from metro_fast.prompts.instruction import Instruction
from metro_fast.prompts.instruction_set import InstructionSet
from metro_fast.prompts.prompt import Reject
from metro_fast.prompts.source_report import SourceReport

__all__ = ["import_flan", "import_promptbench"]

# FLAN writes the choices of an item like this, under either name.
_FLAN_OPTIONS = "OPTIONS:\n- {{ answer_choices | join('\\n- ') }}"
_FLAN_NAMES = {"options_": _FLAN_OPTIONS, "options_str": _FLAN_OPTIONS}
# These targets are the item's own answer.
_FLAN_ANSWERS = ("{answer}", "{answer_str}")
# A slip of PromptBench's lists.
_PROMPTBENCH_NAMES = {"soruce_lang": "{{ source_lang }}"}


def import_flan(
    path: str | os.PathLike[str],
    *,
    task_type: str | None = None,
    seen_by: Sequence[str] = ("flan-t5",),
    license: str = "Apache-2.0",  # noqa: A002 - the name of the field
) -> Imported:
    r"""Read FLAN's `PATTERNS` as JSON: for each task, a list of (input, target) patterns.

    A placeholder becomes the item's field of that name, and `{options_}` FLAN's list of the item's
    choices. Where the target is `{answer}`, the item's choices and answer are kept; another target
    is written freely.

    Args:
        path: JSON file `{task: [[input, target], ...]}`.
        task_type: Kind of task; by default FLAN's name of the task.
        seen_by: Model families that were trained with these wordings.
        license: License of the wordings.

    Returns:
        The instructions, named `flan/<task>/<number from 0>`, and the report.

    Raises:
        FileNotFoundError: If the file is absent.
        FormatError: If it is not such JSON.

    Example:
        >>> import json
        >>> patterns = {"rte": [["{premise}\n{options_}", "{answer}"]]}
        >>> _ = Path("flan.json").write_text(json.dumps(patterns))
        >>> print(import_flan("flan.json").report)
        flan.json: 1 of 1 taken
    """
    path = Path(path)
    instructions: list[Instruction] = []
    rejects: list[Reject] = []
    for task, number, pair in _entries(path):
        name = f"flan/{task}/{number}"
        if not (
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) for p in pair)
        ):
            rejects.append(Reject(name, "not a pair of texts", repr(pair)))
            continue
        own = pair[1] not in _FLAN_ANSWERS
        try:
            instruction = Instruction(
                name,
                task_type or task,
                _to_jinja(pair[0], _FLAN_NAMES),
                tuple(seen_by),
                origin="flan",
                style="task",
                license=license,
                choices=() if own else None,
                target=_to_jinja(pair[1], _FLAN_NAMES) if own else None,
            )
        except MetroFastError as error:
            rejects.append(Reject(name, "not a pattern", str(error)))
            continue
        instructions.append(instruction)
    report = SourceReport(str(path), len(instructions), rejects)
    return Imported(InstructionSet(instructions), report)


def import_promptbench(
    path: str | os.PathLike[str],
    *,
    style: str = "task",
    task_type: str | None = None,
    seen_by: Sequence[str] = (),
    license: str = "MIT",  # noqa: A002 - the name of the field
) -> Imported:
    r"""Read PromptBench's prompts as JSON: for each data set, a list of prompts.

    The items need the field `content`, and for some data sets `task`, `source_lang` and
    `target_lang`; their choices are kept, since these prompts have none.

    Args:
        path: JSON file `{data set: [prompt, ...]}`.
        style: `task` or `role`: what the file's prompts are oriented to.
        task_type: Kind of task; by default PromptBench's name of the data set.
        seen_by: Model families that were trained with these wordings.
        license: License of the wordings.

    Returns:
        The instructions, named `promptbench/<style>/<data set>/<number from 0>`, and the report;
        prompts that have no place for the item, or a placeholder without a name, are rejects.

    Raises:
        FileNotFoundError: If the file is absent.
        FormatError: If it is not such JSON.

    Example:
        >>> import json
        >>> prompts = {"rte": ["Is it so?\nQuestion: {content}\nAnswer:", "Is it so?"]}
        >>> _ = Path("prompts.json").write_text(json.dumps(prompts))
        >>> print(import_promptbench("prompts.json").report)
        prompts.json: 1 of 2 taken (no place for the item: 1)
    """
    path = Path(path)
    instructions: list[Instruction] = []
    rejects: list[Reject] = []
    for dataset, number, prompt in _entries(path):
        name = f"promptbench/{style}/{dataset}/{number}"
        if not isinstance(prompt, str):
            rejects.append(Reject(name, "not a text", repr(prompt)))
            continue
        try:
            text = _to_jinja(prompt, _PROMPTBENCH_NAMES)
        except MetroFastError as error:
            rejects.append(Reject(name, "not a pattern", str(error)))
            continue
        if "{content}" not in prompt:
            rejects.append(Reject(name, "no place for the item", "it has no {content}"))
            continue
        instructions.append(
            Instruction(
                name, task_type or dataset, text, tuple(seen_by), "promptbench", style, license
            )
        )
    report = SourceReport(str(path), len(instructions), rejects)
    return Imported(InstructionSet(instructions), report)


def _entries(path: Path) -> Iterator[tuple[str, int, Any]]:
    """The task, number and value of each entry of a JSON object of lists."""
    content = parse_json(read_small(path), path)
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise FormatError(f"{path} is not a JSON object of lists; give {{task: [prompt, ...]}}")
    for task, entries in content.items():
        for number, entry in enumerate(entries):
            yield task, number, entry


def _to_jinja(pattern: str, names: Mapping[str, str]) -> str:
    """A pattern of `str.format` as a Jinja template that gives the same text."""
    parts: list[str] = []
    try:
        for literal, field, spec, conversion in string.Formatter().parse(pattern):
            parts.append(_literal(literal))
            if field is None:
                continue
            if not field.isidentifier() or spec or conversion:
                raise MetroFastError(
                    f"the placeholder {{{field}}} in {quoted(pattern)} is not a name; give it one"
                )
            parts.append(names.get(field, f"{{{{ {field} }}}}"))
    except ValueError as error:
        raise MetroFastError(f"{quoted(pattern)} is not a pattern ({error})") from error
    return "".join(parts)


def _literal(text: str) -> str:
    """Text that Jinja would otherwise read as the begin of an expression, a tag or a comment."""
    return text.replace("{", "{{ '{' }}") if "{" in text else text
