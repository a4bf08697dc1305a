"""Runs as they were published, and a tiny one: files of settings that come with the package."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import yaml

from metro_fast._ranges import check_choice

__all__ = ["RECIPE_NAMES", "layered", "read_recipe"]

RECIPE_NAMES = ("tiny", "base", "base++", "large++")


def read_recipe(name: str) -> dict[str, Any]:
    """Read the settings of a published run, in sections.

    Args:
        name: "tiny" (minutes on two CPU cores), or "base", "base++" or "large++" (METRO-T0, arXiv
            2305.12567).

    Raises:
        MetroFastError: If there is no such recipe.

    Example:
        >>> read_recipe("base")["training"]["max_steps"]
        125000
    """
    check_choice(RECIPE_NAMES, recipe=name)
    text = files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


_LENGTHS = ("max_steps", "num_train_epochs")


def layered(
    below: Mapping[str, Any], above: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Put settings in sections over others.

    Settings below that those above make void are left out: those of another objective and of its
    auxiliary model (a baseline is the same run with another `objective.name`), the sizes of a new
    model if `init` is given, and a length in steps beside one in epochs.

    Args:
        below: Settings in sections, for instance a recipe.
        above: Settings that win, for instance those of flags.

    Returns:
        The settings, and the dotted names of those that were left out, by the reason.

    Example:
        >>> run = {"objective": {"rtd_weight": 10.0}, "data": {"corpus": "c"}}
        >>> layered(run, {"objective": {"name": "span"}})[1]
        {'objective.name is span': ['objective.rtd_weight']}
    """
    found: dict[str, Any] = {
        name: dict(part) if isinstance(part, Mapping) else part for name, part in below.items()
    }
    void = _void(below, above)
    for names in void.values():
        for section, name in names:
            del found[section][name]
    for name, value in above.items():
        under = found.get(name)
        if isinstance(value, Mapping) and isinstance(under, dict):
            found[name] = {**under, **value}
        else:
            found[name] = value
    if found.get("auxiliary") == {}:
        del found["auxiliary"]
    left_out = {why: [".".join(name) for name in names] for why, names in void.items() if names}
    return found, left_out


def _void(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Section and name of the settings below that are void, by the reason."""
    void: dict[str, list[tuple[str, str]]] = {}
    before, after = _section(below, "objective"), _section(above, "objective")
    objective = after.get("name")
    if objective is not None and objective != before.get("name", "metro"):
        names = [("objective", name) for name in before if name != "name"]
        names += [("auxiliary", name) for name in _section(below, "auxiliary")]
        void[f"objective.name is {objective}"] = names
    if above.get("init") is not None and below.get("init") is None:
        sizes = [name for name in _section(below, "model") if name != "attn_implementation"]
        void["init has sizes of its own"] = [("model", name) for name in sizes]
    for kept, other in (_LENGTHS, _LENGTHS[::-1]):
        if kept in _section(above, "training") and other in _section(below, "training"):
            void[f"training.{kept} is given"] = [("training", other)]
    return void


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = settings.get(name)
    return section if isinstance(section, Mapping) else {}
