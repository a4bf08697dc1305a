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


def layered(below: Mapping[str, Any], above: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Put settings in sections over others.

    Settings of another objective, and of its auxiliary model, are left out: a baseline is the same
    run with another `objective.name`.

    Args:
        below: Settings in sections, for instance a recipe.
        above: Settings that win, for instance those of flags.

    Returns:
        The settings, and the dotted names of those that were left out.

    Example:
        >>> run = {"objective": {"rtd_weight": 10.0}, "data": {"corpus": "c"}}
        >>> layered(run, {"objective": {"name": "span"}})
        ({'objective': {'name': 'span'}, 'data': {'corpus': 'c'}}, ['objective.rtd_weight'])
    """
    found = {
        name: dict(part) if isinstance(part, Mapping) else part for name, part in below.items()
    }
    left_out: list[str] = []
    before, after = _objective(below), _objective(above)
    if after is not None and after != (before or "metro"):
        for section in ("objective", "auxiliary"):
            part = found.get(section)
            if isinstance(part, dict):
                left_out += [f"{section}.{name}" for name in part if name != "name"]
                found[section] = {}
    for name, value in above.items():
        under = found.get(name)
        if isinstance(value, Mapping) and isinstance(under, dict):
            found[name] = {**under, **value}
        else:
            found[name] = value
    if found.get("auxiliary") == {}:
        del found["auxiliary"]
    return found, left_out


def _objective(settings: Mapping[str, Any]) -> Any:
    section = settings.get("objective")
    return section.get("name") if isinstance(section, Mapping) else None
