"""The objectives of pretraining by name: METRO, and the baselines on the same trainer."""

from collections.abc import Mapping
from typing import Any

from metro_fast._training import Objective
from metro_fast.metro.modeling import MetroForPretraining
from metro_fast.metro.objectives.metro import REQUIRED, MetroObjective
from metro_fast.metro.objectives.metro_recipe import METRO, MetroSettings
from metro_fast.metro.objectives.metro_t0_span import METRO_T0_SPAN, MetroT0SpanSettings
from metro_fast.metro.objectives.recipe import ModelPlan, Recipe
from metro_fast.metro.objectives.span import SPAN, SpanSettings
from metro_fast.metro.objectives.ul2 import UL2, Ul2Settings

__all__ = [
    "RECIPES",
    "REQUIRED",
    "MetroObjective",
    "MetroSettings",
    "MetroT0SpanSettings",
    "ModelPlan",
    "Recipe",
    "SpanSettings",
    "Ul2Settings",
    "losses_of",
    "recipe_of",
]

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe for recipe in (METRO, SPAN, UL2, METRO_T0_SPAN)
}


def recipe_of(settings: Any) -> Recipe:
    """The recipe that reads settings of this class."""
    return next(recipe for recipe in RECIPES.values() if isinstance(settings, recipe.settings))


def losses_of(model: Any) -> Objective:
    """The trainer's objective for a model: METRO's, or the cross-entropy of an encoder-decoder.

    Args:
        model: `MetroForPretraining`, or an encoder-decoder that shifts labels by itself.
    """
    recipe = METRO if isinstance(model, MetroForPretraining) else SPAN
    return recipe.losses(model)
