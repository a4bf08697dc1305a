"""Tasks of lm-eval, read by its own code, since their files hold Python functions."""

from collections.abc import Mapping
from typing import Any

from metro_fast._extras import require
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.prompts.item import Item
from metro_fast.prompts.readers.read import Collector, Read, RowError

__all__ = ["read_lm_eval"]


def read_lm_eval(
    task: Any, *, name: str | None = None, task_type: str | None = None, manager: Any = None
) -> Read:
    """Read a task of lm-eval with its own wording, choices and answers.

    Items have the field `input`, lm-eval's own wording of the document, and those fields of the
    document that are JSON values. `Instruction("own", task_type, "{{ input }}")` asks them as
    lm-eval does, without few-shot examples.

    Args:
        task: A task object of lm-eval, or the name of one that `manager` knows.
        name: Name of the task; by default lm-eval's.
        task_type: Kind of task; by default the name.
        manager: An `lm_eval.tasks.TaskManager`; by default one that knows lm-eval's own tasks.

    Returns:
        The task and the report. Documents with several inputs (as winogrande's) or several right
        answers are rejects.

    Raises:
        MissingExtraError: If a name is given and lm-eval is not installed.
        MetroFastError: If no task has the name, or it is a group of tasks.
        FormatError: If no document is an item.
    """
    if isinstance(task, str):
        task = _load(task, manager)
    name = name or str(task.config.task)
    collector = Collector(f"lm-eval {name}")
    for number, document in enumerate(task.eval_docs):
        collector.add(f"document {number}", lambda d=document, n=number: _item(task, str(n), d))  # type: ignore[misc]
    split = task.config.test_split if task.has_test_docs() else task.config.validation_split
    return collector.finish(name, task_type or name, str(split))


def _load(name: str, manager: Any) -> Any:
    tasks = require("lm_eval.tasks", "lm-eval")
    manager = manager if manager is not None else tasks.TaskManager()
    if name not in manager.all_subtasks:
        raise MetroFastError(
            f"lm-eval has no single task {quoted(name)}; give one of those that `lm_eval ls "
            "subtasks` prints"
        )
    return manager.load([name])["tasks"][name]


def _item(task: Any, item_id: str, document: Mapping[str, Any]) -> Item:
    text, target = task.doc_to_text(document), task.doc_to_target(document)
    if not isinstance(text, str):
        raise RowError(
            "several inputs", f"its input is {quoted(text)}, the number of one of its choices"
        )
    fields = {key: value for key, value in document.items() if _is_json(value)}
    fields["input"] = text
    choices: tuple[str, ...] = ()
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = tuple(map(str, task.doc_to_choice(document)))
    if isinstance(target, list):
        if len(target) != 1:
            raise RowError("several answers", f"the answers are {quoted(target)}")
        target = target[0]
    if not choices:
        return Item(item_id, fields, target=str(target))
    if isinstance(target, bool) or not isinstance(target, int):
        if str(target) not in choices:
            return Item(item_id, fields, choices, target=str(target))
        target = choices.index(str(target))
    return Item(item_id, fields, choices, target)


def _is_json(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _is_json(v) for k, v in value.items())
    # NaN is a float that JSON does not have.
    return value is None or (isinstance(value, str | int | float) and value == value)
