"""The parts of Jinja2 that templates may have; what can become large is made to count.

Imports jinja2.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from metro_fast._shown import quoted
from metro_fast.prompts.prompt import TemplateRefusal

__all__ = ["parse"]

# The longest of 453 templates of promptsource and of our own have 735 characters, 158 nodes and a
# depth of 9. To parse and compile one takes at most 0.5 s and 20 MB below these limits.
LENGTH = 100_000
NODES = 2_000
TOKENS = 10_000
DEPTH = 50
# Python compiles at most 20 blocks inside of each other, and Jinja makes two of a loop.
BLOCKS = 8

_NODES = (
    "Template Output TemplateData Scope Name NSRef Const List Tuple Dict Pair Keyword Getattr "
    "Getitem Slice Filter Test Compare Operand And Or Not Neg Pos Add Sub Mul Div FloorDiv Mod "
    "Concat CondExpr Call For If Assign AssignBlock With FilterBlock"
)
_ALLOWED = frozenset(getattr(nodes, name) for name in _NODES.split())
_SPELLED = {
    "Pow": "**", "Macro": "{% macro %}", "CallBlock": "{% call %}", "Block": "{% block %}",
    "Include": "{% include %}", "Import": "{% import %}", "FromImport": "{% from %}",
    "Extends": "{% extends %}", "ScopedEvalContextModifier": "{% autoescape %}",
}  # fmt: skip
_BLOCKS = nodes.For | nodes.If | nodes.With | nodes.AssignBlock | nodes.FilterBlock


def parse(
    environment: jinja2.Environment, text: str, filters: Container[str], tests: Container[str]
) -> nodes.Template:
    """Parse a template, and refuse what is not allowed.

    Args:
        environment: It has the allowed filters and tests, and those that count: `" each"`,
            `" size"`, `" text"`, `" in"` and `" not in"`, whose names no template can spell.
        text: The template.
        filters: Names of the filters that it may use.
        tests: Names of the tests that it may use.

    Raises:
        TemplateSyntaxError: If it is not Jinja2.
        TemplateRefusal: If it is longer, deeper or larger than a template may be, or uses
            something that is not allowed.
    """
    if len(text) > LENGTH:
        raise TemplateRefusal(None, f"has {len(text):,} characters; give at most {LENGTH:,}")
    # The lexer reads only as far as it is asked to, and takes a tenth of the time of the parser.
    if next(itertools.islice(environment.lex(text), TOKENS, None), None):
        raise TemplateRefusal(None, f"has more than {TOKENS:,} words and signs; give fewer")
    tree = environment.parse(text)
    _check_size(tree)
    _Rewriter(filters, tests).visit(tree)
    tree.set_environment(environment)
    return tree


def _check_size(tree: nodes.Template) -> None:
    waiting: list[tuple[nodes.Node, int, int]] = [(tree, 0, 0)]
    count = 0
    while waiting:
        node, depth, blocks = waiting.pop()
        count += 1
        blocks += isinstance(node, _BLOCKS)
        if depth > DEPTH:
            raise TemplateRefusal(node.lineno, f"nests more than {DEPTH} expressions; split it")
        if blocks > BLOCKS:
            raise TemplateRefusal(node.lineno, f"nests more than {BLOCKS} blocks; split it")
        waiting += ((child, depth + 1, blocks) for child in node.iter_child_nodes())
    if count > NODES:
        raise TemplateRefusal(None, f"has {count:,} expressions and texts; give at most {NODES:,}")


class _Rewriter(NodeTransformer):
    """Refuses what is not allowed, and puts a counting filter around what can become large."""

    def __init__(self, filters: Container[str], tests: Container[str]) -> None:
        self._filters = filters
        self._tests = tests

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        name = type(node).__name__
        if type(node) not in _ALLOWED:
            raise _not_allowed(node, f"uses {_SPELLED.get(name, name)}")
        return super().visit(node, *args, **kwargs)

    def visit_Name(self, node: nodes.Name) -> nodes.Name:
        if node.name in ("self", "super"):
            raise TemplateRefusal(
                node.lineno, f"uses {node.name}, which an instruction may not use"
            )
        return node

    def visit_Const(self, node: nodes.Const) -> nodes.Const:
        if isinstance(node.value, float) and not math.isfinite(node.value):
            raise TemplateRefusal(node.lineno, "has a number that is too large for a float")
        return node

    def visit_For(self, node: nodes.For) -> nodes.For:
        """Spend, before the loop, the nodes and characters of each round."""
        if node.recursive:
            raise TemplateRefusal(
                node.lineno, "has a recursive loop, which an instruction may not use"
            )
        self.generic_visit(node)
        steps, characters = 1, 0
        waiting = [*node.body, *([node.test] if node.test else [])]
        while waiting:
            one = waiting.pop()
            steps += 1
            characters += len(one.data) if isinstance(one, nodes.TemplateData) else 0
            waiting += one.iter_child_nodes()
        node.iter = _filter(" each", node.iter, nodes.Const(steps), nodes.Const(characters))
        return node

    def visit_List(self, node: nodes.List) -> nodes.Expr:
        self.generic_visit(node)
        return node if _constant(node) else _filter(" size", node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Expr:
        self.generic_visit(node)
        if _constant(node):
            return node
        for pair in node.items:  # keys are hashed before the whole can be weighed
            pair.key = _filter(" size", pair.key)
        return _filter(" size", node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:
        self.generic_visit(node)
        # One that is not loaded is a target, as in `for a, b in ...`.
        return node if node.ctx != "load" or _constant(node) else _filter(" size", node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node  # the sandbox looks it up
        if not isinstance(node.node, nodes.Name):
            node.node = _filter(" size", node.node)  # Python's compiler warns of 5[1:] and (-1)[1:]
        return _filter(" size", node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        first, *others = node.nodes
        return _filter(" text", first, *others)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Expr:
        self.generic_visit(node)
        operands = [node.expr, *(one.expr for one in node.ops)]
        if any(one.op in ("in", "notin") for one in node.ops):
            if len(node.ops) > 1:
                raise TemplateRefusal(
                    node.lineno, "compares by `in` in a chain; write `a in b and b < c`"
                )
            return _filter(" in" if node.ops[0].op == "in" else " not in", *operands)
        # The cost of comparing with a number or text of the template is known.
        if len(node.ops) > 1 or not any(isinstance(one, nodes.Const) for one in operands):
            node.expr = _filter(" size", node.expr)
            for one in node.ops:
                one.expr = _filter(" size", one.expr)
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        self._check_call(node)
        if node.name not in self._filters:
            raise _unknown(node, "filter", self._filters)
        return self.generic_visit(node)

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        self._check_call(node)
        if node.name not in self._tests:
            raise _unknown(node, "test", self._tests)
        return self.generic_visit(node)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        self._check_call(node)
        return self.generic_visit(node)

    def _check_call(self, node: Any) -> None:
        names = [keyword.key for keyword in node.kwargs]
        if len(set(names)) < len(names):
            raise TemplateRefusal(node.lineno, "gives one keyword argument twice")
        if any(name.startswith("_") for name in names):
            raise _not_allowed(node, "has an argument whose name begins with _")
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise TemplateRefusal(
                node.lineno, "unpacks arguments by *, which an instruction may not do"
            )


def _filter(name: str, node: Any, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, [*arguments], [], None, None, lineno=node.lineno)


def _constant(node: nodes.Node) -> bool:
    containers = nodes.List | nodes.Tuple | nodes.Dict | nodes.Pair
    return isinstance(node, nodes.Const) or (
        isinstance(node, containers) and all(map(_constant, node.iter_child_nodes()))
    )


def _not_allowed(node: nodes.Node, what: str) -> TemplateRefusal:
    return TemplateRefusal(node.lineno, f"{what}, which an instruction may not")


def _unknown(node: Any, kind: str, known: Any) -> TemplateRefusal:
    names = ", ".join(sorted(name for name in known if name.isidentifier()))
    return TemplateRefusal(
        node.lineno, f"uses the {kind} {quoted(node.name)}, and an instruction may use {names}"
    )
