"""The settings of a pretraining run, checked before any work."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from metro_fast._ranges import check_at_least, check_choice
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.metro.objectives import RECIPES, Recipe, recipe_of
from metro_fast.metro.sections import (
    AuxiliarySection,
    DataSection,
    LoadedModelSection,
    ModelSection,
    section_values,
)
from metro_fast.metro.settings import Section, as_mapping, convert, read_section
from metro_fast.metro.training_section import FREE as FREE_TRAINING
from metro_fast.metro.training_section import read_training

FREE = frozenset({"output", "resume", "num_threads", "data.num_workers"}) | FREE_TRAINING
"""Settings that a resumed run may change, by their dotted names."""


@dataclass(frozen=True, kw_only=True, repr=False)
class PretrainConfig(Section):
    """Pretrain an encoder-decoder on a prepared corpus, with METRO or as a baseline of it.

    A section is given as a mapping, or as an object of its class, and is an object of its class
    afterwards (`training` stays a mapping). Values may be texts, as YAML and flags give them.

    Attributes:
        output: Folder for the models, checkpoints and metrics.jsonl.
        data: The corpus and the rows that are evaluated: `DataSection`.
        objective: `name`, which is "metro", "span", "ul2" or "metro_t0_span", and the settings that
            this objective reads.
        model: The main model: `ModelSection`, or `LoadedModelSection` if `init` is given.
        auxiliary: METRO's auxiliary model: `AuxiliarySection`; None for the other objectives.
        training: Any field of `MetroTrainingArguments`; see `training_section.DEFAULTS` for ours.
        init: Folder or Hub name of the encoder-decoder to start from; new weights if not given.
        resume: Continue the run in the output folder.
        num_threads: CPU threads; 0 leaves torch's choice.

    Raises:
        MetroFastError: If a setting is unknown, missing, out of range, or one that the objective
            does not read.
        TypeError: If a value has the wrong type.

    Example:
        >>> config = PretrainConfig(
        ...     output="run",
        ...     data={"corpus": "corpus", "block_size": 64},
        ...     objective={"name": "span", "noise_density": 0.2},
        ...     training={"max_steps": 5, "optim": "adafactor"},
        ... )
        >>> config.objective
        SpanSettings(noise_density=0.2)
        >>> config.training["max_steps"], config.training["warmup_steps"]
        (5, 1000)
    """

    output: Path
    data: Any
    objective: Any = field(default_factory=dict)
    model: Any = field(default_factory=dict)
    auxiliary: Any = None
    training: Any = field(default_factory=dict)
    init: str | None = None
    resume: bool = False
    num_threads: int = 0

    def __post_init__(self) -> None:
        if self.output is None:
            raise MetroFastError("output is not given: name the folder of the run")
        types = {"output": Path, "init": str | None, "resume": bool, "num_threads": int}
        init = None if self.init is None else str(self.init)
        values: dict[str, Any] = {"output": self.output, "init": init}
        values |= {"resume": self.resume, "num_threads": self.num_threads}
        for name, hint in types.items():
            self._set(name, convert(values[name], hint, name))
        check_at_least(0, num_threads=self.num_threads)
        self._set("data", read_section(DataSection, self.data, "data", {}))
        self._set("objective", _read_objective(self.objective))
        self._set("model", _read_model(self.model, loaded=self.init is not None))
        self._set("auxiliary", _read_auxiliary(self.auxiliary, self.recipe, self.init))
        self._set("training", read_training(self.training))
        self._check_evaluation()
        self.recipe.check(self.objective, self.auxiliary)

    def __repr__(self) -> str:
        usual = read_training({})
        parts = [f"output={self.output!r}", f"data={self.data!r}"]
        for name in ("objective", "model", "auxiliary"):
            section = getattr(self, name)
            if section is not None and section != type(section)():
                parts.append(f"{name}={section!r}")
        training = {k: v for k, v in self.training.items() if v != usual.get(k)}
        others: dict[str, Any] = {"training": training, "init": self.init, "resume": self.resume}
        others["num_threads"] = self.num_threads
        parts += [f"{name}={value!r}" for name, value in others.items() if value]
        return f"PretrainConfig({', '.join(parts)})"

    def _check_evaluation(self) -> None:
        """Evaluations need rows: transformers fails late without them."""
        if self.data.evaluation_rows or self.training.get("eval_strategy", "no") == "no":
            return
        name = "eval_strategy" if self.training.get("eval_steps") is None else "eval_steps"
        raise MetroFastError(
            f"training.{name} is given, but data.evaluation_rows is 0, so that nothing is "
            "evaluated: leave one of them out, or give training.eval_strategy as no"
        )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def recipe(self) -> Recipe:
        """The objective's recipe."""
        return recipe_of(self.objective)

    def resolved(self) -> dict[str, Any]:
        """Every setting that this run reads, in sections, as `resolved_config.yaml` holds them.

        `PretrainConfig(**resolved)` has equal settings.
        """
        found: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Section):
                value = section_values(value)
            if value is not None:
                found[each.name] = dict(value) if isinstance(value, Mapping) else value
        found["objective"] = {"name": self.recipe.name, **found["objective"]}
        if self.init is not None and Path(self.init).is_dir():
            found["init"] = Path(self.init)  # recorded absolute, unlike a name on the Hub
        return found


def _read_objective(given: Any) -> Any:
    if any(isinstance(given, recipe.settings) for recipe in RECIPES.values()):
        return given
    values = as_mapping(given, "objective")
    name = values.pop("name", "metro")
    check_choice(tuple(RECIPES), **{"objective.name": name})
    others = {
        setting.name: recipe.name
        for recipe in RECIPES.values()
        for setting in fields(recipe.settings)
    }
    elsewhere = {
        setting: f"is a setting of {owner}, and objective.name is {quoted(name)}: leave it out"
        for setting, owner in others.items()
    }
    moved = {
        each.name: f"is a setting of the auxiliary model: give auxiliary.{each.name}"
        for each in fields(AuxiliarySection)
    }
    return read_section(RECIPES[name].settings, values, "objective", moved | elsewhere)


def _read_model(given: Any, *, loaded: bool) -> Any:
    if not loaded:
        return read_section(ModelSection, given, "model", {})
    why = "is given, but init loads a model, which has its own: leave it out"
    sizes = {each.name: why for each in fields(ModelSection)}
    if isinstance(given, ModelSection):
        given = {
            name: value
            for name, value in section_values(given).items()
            if value != getattr(ModelSection, name, None)
        }
    return read_section(LoadedModelSection, given, "model", sizes)


def _read_auxiliary(given: Any, recipe: Recipe, init: str | None) -> Any:
    if not recipe.has_auxiliary:
        names = sorted(as_mapping(given, "auxiliary")) if isinstance(given, Mapping) else []
        if names or isinstance(given, AuxiliarySection):
            first = f"auxiliary.{names[0]}" if names else "auxiliary"
            raise MetroFastError(
                f"{first} is given, but objective.name is {quoted(recipe.name)}, which has no "
                "auxiliary model: leave the section out"
            )
        return None
    section = read_section(AuxiliarySection, given, "auxiliary", {})
    if init is None and section.init not in (None, "random"):
        raise MetroFastError(
            f"auxiliary.init is {quoted(section.init)}, but without init all weights are new: give "
            "init, or leave auxiliary.init out"
        )
    return section
