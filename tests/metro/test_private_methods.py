"""The undocumented methods of transformers that we rely on: a new release fails with a sentence."""

import ast
import inspect
import types
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import PreTrainedModel, Trainer

from metro_fast._training import SummedLossTrainer
from metro_fast._training.evaluation_trainer import EvaluationTrainer
from metro_fast._training.private_methods import PRIVATE_METHODS, check_private_methods
from metro_fast._training.rows_trainer import RowsTrainer
from metro_fast.errors import MetroFastError
from metro_fast.metro.modeling_base import MetroPreTrainedModel

OURS: list[tuple[type, type]] = [
    (RowsTrainer, Trainer),
    (EvaluationTrainer, Trainer),
    (SummedLossTrainer, Trainer),
    (MetroPreTrainedModel, PreTrainedModel),
]


def copy_of(name: str) -> type:
    """A subclass of one of the two classes, free to be changed."""
    return type(name, (getattr(transformers, name),), {})


def with_classes(**changes: type) -> types.SimpleNamespace:
    classes: dict[str, Any] = {"Trainer": Trainer, "PreTrainedModel": PreTrainedModel, **changes}
    return types.SimpleNamespace(__version__="6.0.0", **classes)


def test_the_installed_release_has_them() -> None:
    check_private_methods(transformers)


def test_the_documented_methods_that_are_overridden_have_our_parameters() -> None:
    """Every parameter of the stock method is one of ours, by its name, or goes into **options."""
    for ours, theirs in OURS:
        for name, method in vars(ours).items():
            stock = getattr(theirs, name, None)
            if (
                name.startswith("__")
                or name == "forward"
                or not callable(stock)
                or not callable(method)
            ):
                continue
            taken = inspect.signature(method).parameters
            anything = any(p.kind is p.VAR_KEYWORD for p in taken.values())
            missing = set(inspect.signature(stock).parameters) - set(taken)
            assert anything or not missing, f"{theirs.__name__}.{name} has the new {missing}"


@pytest.mark.parametrize("name", PRIVATE_METHODS)
def test_a_method_that_is_gone_is_named(name: str) -> None:
    owner, _, method = name.partition(".")
    changed = copy_of(owner)
    setattr(changed, method, None)
    with pytest.raises(MetroFastError, match=rf"{name} of transformers 6\.0\.0 is gone, but"):
        check_private_methods(with_classes(**{owner: changed}))


def test_a_changed_signature_is_spelled_out() -> None:
    changed = copy_of("Trainer")
    changed._save_checkpoint = lambda self, model: None  # type: ignore[attr-defined]
    expected = r"takes \(self, model\), but .* relies on Trainer\._save_checkpoint\(self, model, tr"
    with pytest.raises(MetroFastError, match=expected):
        check_private_methods(with_classes(Trainer=changed))


def test_the_list_holds_every_private_method_that_we_override_or_call() -> None:
    for ours, theirs in OURS:
        source = Path(inspect.getsourcefile(ours) or "").read_text(encoding="utf-8")
        called = {
            node.func.attr
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        private = {
            name
            for name in called | set(vars(ours))
            if name.startswith("_") and not name.startswith("__")
            if inspect.isroutine(inspect.getattr_static(theirs, name, None))
        }
        listed = {
            name.partition(".")[2]
            for name in PRIVATE_METHODS
            if name.startswith(f"{theirs.__name__}.")
        }
        assert private
        assert private <= listed
