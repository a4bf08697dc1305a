"""Optimizer groups: every trainable tensor once, in the right group, at the right rate."""

from typing import Any

import pytest
import torch

from metro_cases import metro_model
from metro_fast._parameter_groups import parameter_groups
from metro_fast.errors import MetroFastError


def test_each_parameter_once_with_its_rate() -> None:
    model = metro_model(embedding_sharing="token")
    groups = parameter_groups(
        model,
        learning_rate=1e-3,
        weight_decay=0.01,
        embedding_multiplier=5.0,
        relative_bias_multiplier=20.0,
    )
    names = {id(p): n for n, p in model.named_parameters()}
    found = {g["name"]: sorted(names[id(p)] for p in g["params"]) for g in groups}
    assert sorted(n for group in found.values() for n in group) == sorted(names.values())
    assert found["embeddings"] == ["auxiliary.shared.weight"]  # the name that is found first
    assert len(found["relative_bias"]) == 3  # auxiliary, encoder, decoder
    assert all("norm" in n or n.endswith("bias") for n in found["vectors"])
    rates = {g["name"]: (g["lr"], g["weight_decay"]) for g in groups}
    assert rates["matrices"] == (1e-3, 0.01)
    assert rates["vectors"] == (1e-3, 0.0)
    assert rates["embeddings"] == (pytest.approx(5e-3), 0.0)
    assert rates["relative_bias"] == (pytest.approx(2e-2), 0.0)
    assert groups[0]["name"] == "matrices"  # the rate of this group is the one that is logged


def test_frozen_parameters_are_left_out() -> None:
    model = metro_model()
    model.main.requires_grad_(False)
    groups = parameter_groups(model, learning_rate=1e-3)
    assert all(p.requires_grad for g in groups for p in g["params"])
    model.requires_grad_(False)
    with pytest.raises(MetroFastError, match="no trainable parameter"):
        parameter_groups(model, learning_rate=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": 1e-3, "embedding_multiplier": -1.0},
        {"learning_rate": 1e-3, "relative_bias_multiplier": float("inf")},
        {"learning_rate": 1e-3, "weight_decay": -0.1},
    ],
)
def test_bad_rates_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(MetroFastError, match="expected a finite number"):
        parameter_groups(torch.nn.Linear(2, 2), **options)
