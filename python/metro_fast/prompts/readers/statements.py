"""Relations as a multiple choice of statements, among those that the entities' types allow."""

from collections.abc import Mapping, Sequence

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.prompts.item import Item
from metro_fast.prompts.readers.read import Collector, Read, RowError
from metro_fast.prompts.task import Task
from metro_fast.prompts.template import TemplateFailure, fill

__all__ = ["with_statements"]


def with_statements(
    task: Task,
    templates: Mapping[str, str],
    *,
    valid: Mapping[str, Sequence[str]] | None = None,
    types: tuple[str, str] = ("e1_type", "e2_type"),
    none: str | None = None,
) -> Read:
    """Give each item of relation extraction a statement for each of its relations.

    It is the construction of QA4RE (Zhang, Gutiérrez and Su, arXiv 2305.11159): one option for each
    relation that is valid for the pair of entity types, and the one for no relation last. The
    statements become the field `statements`, in the order of the choices. So one item is asked in
    both readings, by the names of the relations and by the statements, and both have its id.
    QA4RE takes the last option as right where the true relation is not valid for the types; here
    such an item is a reject, because its answer would be false.

    Args:
        task: Items whose choices are relations.
        templates: For each relation, a Jinja2 template of its statement over the item's fields.
        valid: For each pair of types, as `"PERSON:CITY"`, its relations; by default all.
        types: Fields with the types of the two entities.
        none: The relation of those that are not related; it is valid for all types.

    Returns:
        The task, with the items' relations narrowed to the valid ones, and the report.

    Raises:
        MetroFastError: If a relation has no template.
        FormatError: If no item is left.

    Example:
        >>> item = Item("1", {"e1": "Ann", "e2": "Oslo"}, ("NA", "lives in"), 1)
        >>> templates = {"lives in": "{{ e1 }} lives in {{ e2 }}.", "NA": "Neither."}
        >>> task = with_statements(Task("re", "re", [item]), templates, none="NA").task
        >>> task.items[0].fields["statements"], task.items[0].answer_text
        (['Ann lives in Oslo.', 'Neither.'], 'lives in')
    """
    missing = sorted({label for item in task for label in item.choices} - templates.keys())
    if missing:
        raise MetroFastError(
            f"the relation {quoted(missing[0])} has no template; give one for each"
        )
    collector = Collector(task.name)
    for item in task:

        def make(item: Item = item) -> Item:
            labels = _valid(item, valid, types, none)
            answer = item.answer_text
            if answer not in labels:
                raise RowError(
                    "relation not valid for its types",
                    f"{quoted(answer)} is not in {quoted(labels)}",
                )
            if len(labels) < 2:
                raise RowError("fewer than two choices", f"only {quoted(labels)} is valid")
            statements = [_statement(templates[label], item) for label in labels]
            fields = {**item.fields, "statements": statements}
            return Item(item.id, fields, tuple(labels), labels.index(answer), item.group)

        collector.add(item.id, make)
    return collector.finish(task.name, task.task_type, task.split, task.metric)


def _valid(
    item: Item,
    valid: Mapping[str, Sequence[str]] | None,
    types: tuple[str, str],
    none: str | None,
) -> list[str]:
    """The relations of an item that its types allow, and that of no relation last."""
    labels = [label for label in item.choices if label != none]
    if valid is not None:
        absent = [name for name in types if name not in item.fields]
        if absent:
            raise RowError("no entity type", f"the item has no field {quoted(absent[0])}")
        pair = ":".join(str(item.fields[name]) for name in types)
        labels = [label for label in labels if label in valid.get(pair, ())]
    return labels + [label for label in item.choices if label == none]


def _statement(template: str, item: Item) -> str:
    try:
        return fill(template, item.fields, where=f"the template {quoted(template)}", key=item.id)
    except TemplateFailure as failure:
        raise RowError(failure.reason, failure.detail) from failure
