"""Relation extraction: SemEval-2010 Task 8 as text, and FewRel as JSON."""

import os
import re
from pathlib import Path
from typing import Any

from metro_fast._json import parse_json
from metro_fast._memory import read_large, read_small
from metro_fast._shown import quoted
from metro_fast.errors import FormatError
from metro_fast.prompts.item import Item
from metro_fast.prompts.readers.read import Collector, Read, RowError
from metro_fast.prompts.readers.statements import with_statements
from metro_fast.prompts.source_report import SourceReport

__all__ = ["SEMEVAL_STATEMENTS", "read_fewrel", "read_semeval"]

_BOTH_WAYS = {
    "Cause-Effect": "{{ e1 }} is the cause of {{ e2 }}.",
    "Component-Whole": "{{ e1 }} is a part of {{ e2 }}.",
    "Content-Container": "{{ e1 }} is contained in {{ e2 }}.",
    "Entity-Destination": "{{ e1 }} is moved to {{ e2 }}.",
    "Entity-Origin": "{{ e1 }} comes from {{ e2 }}.",
    "Instrument-Agency": "{{ e1 }} is an instrument that {{ e2 }} uses.",
    "Member-Collection": "{{ e1 }} is a member of {{ e2 }}.",
    "Message-Topic": "{{ e1 }} is a message about {{ e2 }}.",
    "Product-Producer": "{{ e1 }} is produced by {{ e2 }}.",
}
_SWAPPED = {"e1": "e2", "e2": "e1"}

SEMEVAL_STATEMENTS: dict[str, str] = {}
"""A statement for each of the 19 relations of SemEval-2010 Task 8, `Other` last."""
for _relation, _text in _BOTH_WAYS.items():
    SEMEVAL_STATEMENTS[f"{_relation}(e1,e2)"] = _text
    SEMEVAL_STATEMENTS[f"{_relation}(e2,e1)"] = re.sub(
        r"\be[12]\b", lambda found: _SWAPPED[found[0]], _text
    )
SEMEVAL_STATEMENTS["Other"] = "{{ e1 }} and {{ e2 }} are related in none of these ways."

_SENTENCE = re.compile(r'(\d+)\t\s*"?(.*?)"?\s*')
_ENTITY = {name: re.compile(rf"<{name}>(.*?)</{name}>") for name in ("e1", "e2")}


def read_semeval(
    path: str | os.PathLike[str], *, name: str = "semeval2010_task8", split: str = "test"
) -> Read:
    r"""Read SemEval-2010 Task 8: blocks of a numbered sentence, its relation, and a comment.

    The choices are the 19 relations with their directions. Items have the fields `sentence`,
    `tagged` (the sentence with `<e1>` and `<e2>`), `e1`, `e2`, and `statements` (see
    `with_statements`).

    Args:
        path: The text file, with keys.
        name: Name of the task.
        split: Part of the data.

    Returns:
        The task, of type `re` with the metric `semeval_macro_f1`, and the report.

    Raises:
        FileNotFoundError: If the file is absent.
        FormatError: If no block is an item.

    Example:
        >>> text = '1\t"A <e1>key</e1> is in the <e2>box</e2>."\nContent-Container(e1,e2)\n'
        >>> _ = Path("key.txt").write_text(text)
        >>> item = read_semeval("key.txt").task.items[0]
        >>> item.answer_text, item.fields["statements"][item.answer]
        ('Content-Container(e1,e2)', 'key is contained in box.')
    """
    path = Path(path)
    collector = Collector(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 text: {error}") from error
    for number, block in enumerate(re.split(r"\n\s*\n", text.strip())):
        if block.strip():
            collector.add(f"block {number}", lambda b=block: _semeval_item(b))  # type: ignore[misc]
    read = collector.finish(name, "re", split, "semeval_macro_f1")
    return Read(with_statements(read.task, SEMEVAL_STATEMENTS, none="Other").task, read.report)


def _semeval_item(block: str) -> Item:
    lines = block.strip().splitlines()
    first = _SENTENCE.fullmatch(lines[0])
    if first is None:
        raise RowError("no numbered sentence", lines[0])
    item_id, tagged = first.groups()
    entities = {name: pattern.search(tagged) for name, pattern in _ENTITY.items()}
    relation = lines[1].strip() if len(lines) > 1 else ""
    if relation not in SEMEVAL_STATEMENTS:
        raise RowError("no relation", f"sentence {item_id} has the relation {quoted(relation)}")
    fields = {"sentence": re.sub(r"</?e[12]>", "", tagged), "tagged": tagged}
    for name, found in entities.items():
        if found is None:
            raise RowError("no entity", f"sentence {item_id} has no <{name}>")
        fields[name] = found[1]
    labels = tuple(SEMEVAL_STATEMENTS)
    return Item(item_id, fields, labels, labels.index(relation))


def read_fewrel(
    path: str | os.PathLike[str],
    names: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    split: str = "validation",
) -> Read:
    """Read FewRel: for each relation, a list of tokenized sentences with a head and a tail.

    The choices are all relations of the file. Items have the fields `sentence`, `tagged`, `e1`
    (the head), `e2` (the tail), `descriptions` (those of the relations, where `names` has them) and
    `statements` (see `with_statements`).

    Args:
        path: JSON file of the sentences.
        names: FewRel's `pid2name.json`; without it relations are called by their ids.
        name: Name of the task; by default `fewrel_` and the file's stem.
        split: Part of the data.

    Returns:
        The task, of type `re`, with ids such as `P40/3`, and the report.

    Raises:
        FileNotFoundError: If a file is absent.
        FormatError: If a file is not such JSON, or no sentence is an item.
    """
    path = Path(path)
    content = parse_json(read_large(path), path, large=True)
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise FormatError(f"{path} is not a JSON object of lists; give {{relation: [sentence]}}")
    known = {} if names is None else parse_json(read_small(Path(names)), names)
    if not isinstance(known, dict):
        raise FormatError(f"{names} is not a JSON object; give FewRel's pid2name.json")
    about = {pid: known.get(pid) or [pid, ""] for pid in content}
    labels = tuple(str(about[pid][0]) for pid in content)
    descriptions = [str(about[pid][1]) for pid in content]
    collector = Collector(path)
    for place, (pid, sentences) in enumerate(content.items()):
        for number, sentence in enumerate(sentences):

            def make(
                item_id: str = f"{pid}/{number}", sentence: Any = sentence, place: int = place
            ) -> Item:
                fields: dict[str, Any] = {**_fewrel_fields(sentence), "descriptions": descriptions}
                return Item(item_id, fields, labels, place)

            collector.add(f"{pid}/{number}", make)
    read = collector.finish(name or f"fewrel_{path.stem}", "re", split)
    if len(set(labels)) < len(labels):
        return read
    # The name is data, not a template: braces in it stay what they are.
    templates = {
        label: f"{{{{ e1 }}}} is linked to {{{{ e2 }}}} by the relation {{{{ {literal} }}}}."
        for label, literal in zip(labels, map(repr, labels), strict=True)
    }
    task, more = with_statements(read.task, templates)
    rejects = (*read.report.rejects, *more.rejects)
    return Read(task, SourceReport(read.report.source, len(task), rejects, read.report.remarks))


def _fewrel_fields(sentence: Any) -> dict[str, str]:
    try:
        tokens = list(map(str, sentence["tokens"]))
        places = [list(map(int, sentence[end][2][0])) for end in ("h", "t")]
        entities = [" ".join(tokens[i] for i in place) for place in places]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise RowError("not a sentence of FewRel", f"{type(error).__name__}: {error}") from error
    marked = list(tokens)
    for tag, place in zip(("e1", "e2"), places, strict=True):
        marked[place[0]] = f"<{tag}>{marked[place[0]]}"
        marked[place[-1]] = f"{marked[place[-1]]}</{tag}>"
    return {
        "sentence": " ".join(tokens),
        "tagged": " ".join(marked),
        "e1": entities[0],
        "e2": entities[1],
    }
