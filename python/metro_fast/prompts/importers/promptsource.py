"""Templates of promptsource: YAML with the tags !Template and !TemplateMetadata, read as data."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metro_fast._shown import shown
from metro_fast._yaml import parse_yaml
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts.importers.imported import Imported
from metro_fast.prompts.instruction import Instruction
from metro_fast.prompts.instruction_set import InstructionSet
from metro_fast.prompts.prompt import Reject
from metro_fast.prompts.source_report import SourceReport
from metro_fast.prompts.template import check_template

__all__ = ["import_promptsource"]


def import_promptsource(
    path: str | os.PathLike[str],
    *,
    task_type: str | None = None,
    seen_by: Sequence[str] = (),
    license: str = "Apache-2.0",  # noqa: A002 - the name of the field
) -> Imported:
    r"""Read one `templates.yaml`, or all YAML files below a folder.

    A template keeps its text, with `|||` between input and target, and its `answer_choices`; one
    without these is answered by free text. Where promptsource leaves a missing field blank, here
    the item is a reject, and its filter `choice` draws the same for the same item on every run.

    Args:
        path: A file, or a folder that is searched at every depth.
        task_type: Kind of task; by default the data set's name, as in `super_glue/rte`.
        seen_by: Model families that were trained with these wordings.
        license: License of the wordings.

    Returns:
        The instructions, named `<data set>/<template>`, with the style `task`, or `other-task`
        where the template asks something else than the data set's own task; and the report.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        FormatError: If a file is not promptsource's YAML.
        MissingExtraError: If jinja2 is not installed.

    Example:
        >>> text = "dataset: toy\ntemplates:\n  1: !Template\n    name: ask\n"
        >>> text += "    answer_choices: no ||| yes\n    jinja: '{{ q }} ||| {{ a }}'\n"
        >>> _ = Path("templates.yaml").write_text(text)
        >>> words, report = import_promptsource("templates.yaml")
        >>> print(words[0].id, words[0].choices, report)
        toy/ask no ||| yes templates.yaml: 1 of 1 taken
    """
    path = Path(path)
    files = sorted(path.rglob("*.yaml")) if path.is_dir() else [path]
    instructions: dict[str, Instruction] = {}
    rejects: list[Reject] = []
    for file in files:
        dataset, templates = _parse(file)
        for key, template in templates.items():
            name = f"{dataset}/{template.get('name') or key}"
            if name in instructions:
                name = f"{name} {key}"
            try:
                instruction = _instruction(name, template, task_type or dataset, seen_by, license)
            except (TypeError, MetroFastError) as error:
                rejects.append(Reject(name, "not a template", str(error)))
                continue
            if "|||" not in instruction.text:
                rejects.append(Reject(name, "no target", "its text has no |||"))
            else:
                instructions[name] = instruction
    report = SourceReport(str(path), len(instructions), rejects)
    return Imported(InstructionSet(instructions.values()), report)


def _parse(file: Path) -> tuple[str, dict[Any, dict[str, Any]]]:
    """The data set of a file and its templates; its two tags are read as plain mappings."""
    content = parse_yaml(file.read_bytes(), file, mappings=("!Template", "!TemplateMetadata"))
    if not isinstance(content, dict) or not isinstance(content.get("dataset"), str):
        raise FormatError(f"{file} has no data set's name; give a templates.yaml of promptsource")
    templates = content.get("templates")
    if not isinstance(templates, dict) or not all(isinstance(t, dict) for t in templates.values()):
        raise FormatError(f"{file} has no templates; give a templates.yaml of promptsource")
    subset = content.get("subset")
    return "/".join([content["dataset"], *([str(subset)] if subset else [])]), templates


def _instruction(
    name: str, template: dict[str, Any], task_type: str, seen_by: Sequence[str], license_name: str
) -> Instruction:
    choices = template.get("answer_choices")
    metadata = template.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise FormatError(f"its metadata is {shown(repr(metadata))}; give a mapping")
    instruction = Instruction(
        name,
        task_type,
        template.get("jinja", ""),
        tuple(seen_by),
        origin="promptsource",
        style="other-task" if metadata.get("original_task") is False else "task",
        license=license_name,
        choices=() if choices is None else choices,
        syntax="promptsource",
    )
    for text in (instruction.text, choices or ""):
        check_template(text, f"instruction {name!r}")
    return instruction
