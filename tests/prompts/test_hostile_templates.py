"""Templates of strangers: each ends in its one error, or in the text of Jinja2's own sandbox."""

import contextlib
import functools
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_fast.errors import MetroFastError
from metro_fast.prompts import (
    OWN_SETS,
    Instruction,
    Item,
    Task,
    own_instructions,
    with_statements,
)
from metro_fast.prompts.importers import import_promptsource
from odd_templates import HOSTILE
from run_templates import plain

SUPPORT = Path(__file__).resolve().parents[1] / "support"


@functools.cache
def endings(kind: str) -> dict[str, tuple[str, float, float]]:
    """How the templates of a kind end; each has its process, so that it is timed and measured."""
    done = subprocess.run(
        [sys.executable, SUPPORT / "run_templates.py", kind],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1  # the summary, and no warning of Python's compiler
    lines = map(json.loads, done.stdout.splitlines())
    return {name: (ending, seconds, megabytes) for name, ending, seconds, megabytes in lines}


@pytest.mark.parametrize("name", HOSTILE)
def test_every_hostile_template_has_one_ending(name: str) -> None:
    ending, seconds, megabytes = endings(name.partition(":")[0])[name]
    expected = HOSTILE[name][1]
    assert expected in ending if expected else ending == "equal"
    assert len(ending) < 800
    assert seconds < 1
    assert megabytes < 100


FIELDS: dict[str, Any] = {
    "word": "Good",
    "text": "a rose is\na rose",
    "empty": "",
    "n": 3,
    "x": 2.5,
    "yes": True,
    "nothing": None,
    "names": ["Bo", "al", "Cy"],
    "rows": [{"name": "b", "size": 2}, {"name": "a", "size": 1}],
    "table": {"one": 1, "two": [2, {"three": "3"}]},
}


def words(text: str) -> st.SearchStrategy[str]:
    """One of some words."""
    return st.sampled_from(text.split(" "))


NAMES = st.sampled_from([*FIELDS, "a", "nosuch"])
FILTERS = words(
    "abs capitalize count default('d') dictsort first float int items join join(',') last length "
    "list lower map(attribute='name') map('upper') max min most_frequent reject('none') reverse "
    "rejectattr('size') replace('o','0') round select('string') select selectattr('name') sort "
    "sort(attribute='name') string sum title tojson trim truncate(3) unique upper wordcount"
)
TESTS = words("defined even mapping none number odd sequence string true in(names)")
CONSTANTS = words("0 2 -1 1.5 'o' '\t' '' none true [1,'b'] {'one':1} (1,2)")
METHODS = words(
    ".upper() .split() .split('o') .strip() .replace('o','aa') .count('o') .find('o') .items() "
    ".name .one .0 .get('one') .index('o') .title() [0] ['one'] [1:] [::-1] [:n] [-1] .keys() "
    ".join(names) .nosuch .startswith('G') .splitlines()"
)
OPERATORS = words("+ - * / // % ~ == != < >= in and or")


def longer(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions that are made of others."""
    return st.one_of(
        st.builds("({}|{})".format, inner, FILTERS),
        st.builds("{}{}".format, inner, METHODS),
        st.builds("({} {} {})".format, inner, OPERATORS, inner),
        st.builds("({} is {})".format, inner, TESTS),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("{{{}: {}}}".format, inner, inner),
        st.builds("zip({}, {})".format, inner, inner),
        st.builds("dict(a={}, b={})".format, inner, inner),
        st.builds("range({})|list".format, inner),
    )


EXPRESSIONS = st.recursive(NAMES | CONSTANTS, longer, max_leaves=6)


def blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Parts of a template that are made of others."""
    return st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds(
            "{{% for a in {} %}}{}{{{{ loop.index }}}}{{% endfor %}}".format, EXPRESSIONS, inner
        ),
        st.builds("{{% if {} %}}{}{{% else %}}-{{% endif %}}".format, EXPRESSIONS, inner),
        st.builds("{{% set a = {} %}}{}".format, EXPRESSIONS, inner),
        st.builds("{{% set a %}}{}{{% endset %}}{{{{ a }}}}".format, inner),
        st.builds("{{% with a = {} %}}{}{{% endwith %}}".format, EXPRESSIONS, inner),
    )


TEMPLATES = st.recursive(st.builds("{{{{ {} }}}}".format, EXPRESSIONS), blocks, max_leaves=4)
PLAIN = plain()


@settings(max_examples=500, deadline=None)
@given(TEMPLATES)
def test_any_template_gives_what_jinja_gives_or_the_one_error(template: str) -> None:
    try:
        text = (
            Instruction("any", "cls", f"{template}.").render(Item("1", FIELDS, ("b", "c"), 0)).input
        )
    except MetroFastError:
        return
    assert text == PLAIN.from_string(f"{template}.").render(FIELDS)


PIECES = words(
    "{{ }} {% %} {# #} {%- -%} for in if else endif endfor set endset raw endraw block macro word "
    "numbers 'o' 1 2.5 ( ) [ ] { } | . , : = == ~ + ** upper join loop \\ \" \n \0 \ud800 \u2028"
)


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=25).map(" ".join))
def test_any_text_gives_a_prompt_or_the_one_error(text: str) -> None:
    with contextlib.suppress(MetroFastError):
        prompt = Instruction("any", "cls", f"{text}.").render(Item("1", FIELDS, ("b", "c"), 0))
        prompt.input.encode()


@pytest.mark.parametrize("name", OWN_SETS)
def test_own_wordings_are_rendered_as_by_jinja(name: str) -> None:
    fields = {
        "sentence": "It's <b> {{ n }}.", "e1": "Ann", "e2": "Oslo", "statements": ["so", "not"],
        "question": "Why?", "premise": "A & B", "hypothesis": "\u00df\U0001f600", "text": "fine",
    }  # fmt: skip
    choices = ["no", "yes"]
    names = {
        **fields, "choices": choices, "item_choices": choices, "answer_choices": choices,
        "letters": ["A", "B"], "options": "no , yes", "lettered": "A. no\nB. yes",
    }  # fmt: skip
    for instruction in own_instructions(name):
        prompt = instruction.render(Item("1", fields, tuple(choices), 1))
        given = {**names, "answer_choices": list(prompt.choices)}
        if instruction.choices is not None:
            given["options"] = " , ".join(prompt.choices)
        assert prompt.input == PLAIN.from_string(instruction.text).render(given)


ITEM = Item("1", {"word": "good", "long": "x" * 10_000}, ("yes", "no"), 0)
HALF = "{{ '\\ud800' }}"


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        (Instruction("a", "c", "x", choices="{{ 'a|||' * 10_000 }}"), "gives 10,001 choices"),
        (Instruction("a", "c", "x", choices="{{ lipsum() }}"), "'lipsum' is undefined"),
        (Instruction("a", "c", "x", choices="{{ word|random }}"), "uses the filter 'random'"),
        (Instruction("a", "c", "x", choices="a|||" + HALF), "not valid Unicode text"),
        (Instruction("a", "c", "x", target=HALF), "not valid Unicode text"),
        (Instruction("a", "c", "x", target="\n{{ word.center(9) }}"), "'center' of 'str' object"),
        (Instruction("a", "c", "x", target="{% for a in range(99999) %}x{% endfor %}"), "steps"),
        (Instruction("a", "c", "x\n\n{% macro m() %}{% endmacro %}"), "line 3 uses {% macro %}"),
        (Instruction("a", "c", "x|||" * 9, syntax="promptsource", choices=()), "has 10 parts"),
        (Instruction("a", "c", "x", choices=["y" * 9999, " "]), "a choice in"),
        (Instruction("a", "c", "x", target="{{ long }}"), "the answer 'xxx"),
        (Instruction("i" * 9999, "c", "{{ nosuch }}"), "'nosuch' is undefined"),
    ],
)  # fmt: skip
def test_every_template_of_an_instruction_is_bounded(
    instruction: Instruction, message: str
) -> None:
    with pytest.raises(MetroFastError, match=re.escape(message)) as caught:
        instruction.render(ITEM)
    assert len(str(caught.value)) < 800


def test_a_field_that_is_nested_too_deep_is_a_reject() -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    item = Item("1", {"deep": deep}, ("yes", "no"), 0)

    instruction = Instruction("a", "c", "{{ deep }}")
    assert instruction.render(item).input == str(deep)

    def nested(calls: int) -> object:
        return nested(calls - 1) if calls else instruction.render(item)

    with pytest.raises(MetroFastError, match="a field holds lists nested some 400 deep"):
        nested(sys.getrecursionlimit() - len(inspect.stack(0)) - 300)


def test_statements_and_importers_refuse_as_instructions_do(tmp_path: Path) -> None:
    items = [Item("1", {"e1": "Ann", "e2": "Oslo"}, ("in", "of"), 0)]
    words = {"in": "{{ e1 }} in {{ e2 }}", "of": "{{ e1.center(10) }}"}
    with pytest.raises(MetroFastError, match="'center' of 'str' object is unsafe"):
        with_statements(Task("t", "re", items), words)
    words["of"] = "{{ e1|center(10) }}" + "x" * 9999
    with pytest.raises(MetroFastError, match="uses the filter 'center'") as caught:
        with_statements(Task("t", "re", items), words)
    assert len(str(caught.value)) < 800
    path = tmp_path / "templates.yaml"
    path.write_text(
        "dataset: toy\ntemplates:\n"
        "  1: !Template {name: good, jinja: '{{ q }} ||| a'}\n"
        "  2: !Template {name: bad, jinja: '{{ q|center(9) }} ||| a'}\n"
        "  3: !Template {name: worse, answer_choices: '{% include q %}', jinja: 'q ||| a'}\n"
    )
    words, report = import_promptsource(path)
    assert [one.id for one in words] == ["toy/good"]
    assert [one.detail.partition(" uses ")[2][:20] for one in report.rejects] == [
        "the filter 'center',",
        "{% include %}, which",
    ]


def test_the_page_lists_what_is_allowed() -> None:
    page = (SUPPORT.parents[1] / "docs" / "prompts.md").read_text()
    for kind, text, long in (
        ("filter", "{{ word|nosuch }}", set()),
        ("test", "{{ word is nosuch }}", {"equalto", "greaterthan", "lessthan"}),
    ):
        with pytest.raises(MetroFastError) as caught:
            Instruction("a", "c", text).render(ITEM)
        names = str(caught.value).rpartition(" may use ")[2].split(", ")
        row = re.search(rf"\| {kind}s \| `([^`]*)`", page)
        assert row is not None
        assert set(row[1].split()) == set(names) - long
