"""Dotted flags: one option `--section.name` for each setting of a pretraining run."""

import dataclasses
import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from metro_fast.cli.dotted import USAGE_ERROR, DottedCommand, spell
from metro_fast.cli.from_dataclass import option_help
from metro_fast.metro.objectives import RECIPES
from metro_fast.metro.options import MetroOptions
from metro_fast.metro.sections import AuxiliarySection, DataSection, ModelSection
from metro_fast.metro.settings import similar
from metro_fast.metro.training_arguments import MetroTrainingArguments
from metro_fast.metro.training_section import DEFAULTS, field_types

TOP = ("output", "init", "resume", "num_threads")
"""Options without a section."""


@dataclass(frozen=True)
class Setting:
    """One setting as a flag.

    Attributes:
        section: Its section, such as "training".
        name: Its name in the section.
        hint: Its type.
        default: Its default, for the help.
        text: Its meaning.
        hidden: Whether it is left out of the help.
    """

    section: str
    name: str
    hint: Any
    default: Any
    text: str
    hidden: bool = False

    @property
    def dotted(self) -> str:
        """The name that the flag and messages give it."""
        return f"{self.section}.{self.name}"

    @property
    def parameter(self) -> str:
        """The name of the function's parameter."""
        return f"{self.section}__{self.name}"

    @property
    def is_switch(self) -> bool:
        """Whether the flag may have no value, which means true."""
        return self.hint is bool or bool in get_args(self.hint)

    @property
    def is_list(self) -> bool:
        """Whether it may have several values."""
        kinds = {get_origin(hint) or hint for hint in (self.hint, *get_args(self.hint))}
        return get_origin(self.hint) is not Literal and bool(kinds & {list, tuple})


def all_settings() -> Iterator[Setting]:
    """The settings of every section, in the order of the help."""
    yield from _of_class("data", DataSection)
    yield Setting("objective", "name", Literal[tuple(RECIPES)], "metro", "The objective.")
    yield from _of_objectives()
    yield from _of_class("model", ModelSection)
    yield from _of_class("auxiliary", AuxiliarySection, MetroOptions, prefix="auxiliary_")
    texts = option_help(MetroTrainingArguments)
    metadata = {field.name: field.metadata for field in dataclasses.fields(MetroTrainingArguments)}
    types = field_types()
    for name in (*DEFAULTS, *(name for name in types if name not in DEFAULTS)):
        text = _TRAINING_TEXTS.get(name) or texts.get(name) or str(metadata[name].get("help", ""))
        hidden = name not in DEFAULTS and name not in _ALSO_SHOWN
        default = DEFAULTS.get(name)
        yield Setting("training", name, types[name], default, text, hidden)


_ALSO_SHOWN = ("eval_steps", "rms_scaled", "report_to", "torch_compile")
_TRAINING_TEXTS = {
    "max_steps": "Optimizer steps.",
    "per_device_train_batch_size": "Rows per forward pass and rank.",
    "gradient_accumulation_steps": "Forward passes per optimizer step.",
    "learning_rate": "Peak rate.",
    "lr_scheduler_type": "Fall of the rate after the warmup: linear, cosine, constant, ...",
    "warmup_steps": "Steps in which the rate rises to its peak.",
    "optim": "Optimizer: adamw_torch, adafactor, ...",
    "weight_decay": "Decay of the matrices.",
    "max_grad_norm": "Gradients are clipped to this norm; 0 for no clipping.",
    "embedding_multiplier": "Rate of the token embeddings over learning_rate.",
    "relative_bias_multiplier": "Rate of the relative attention biases over learning_rate.",
    "bf16": "Compute in bfloat16 (autocast).",
    "seed": "Seed of every random choice: weights, order, masks, draws, dropout.",
    "logging_steps": "Steps between log lines.",
    "save_steps": "Steps between checkpoints.",
    "save_total_limit": "Checkpoints that are kept, at least 2.",
    "save_strategy": "steps, or no.",
    "eval_steps": "Steps between evaluations; by default the end alone is evaluated.",
    "report_to": "tensorboard, wandb, ...; nothing by default.",
    "torch_compile": "Compile the model.",
}


def _of_class(
    section: str, kind: type, documented_by: type | None = None, prefix: str = ""
) -> Iterator[Setting]:
    hints = get_type_hints(kind)
    texts = option_help(documented_by) if documented_by is not None else {}
    texts |= {name.removeprefix(prefix): text for name, text in texts.items()}
    texts |= option_help(kind)
    for field in dataclasses.fields(kind):
        default = None if field.default is dataclasses.MISSING else field.default
        yield Setting(section, field.name, hints[field.name], default, texts.get(field.name, ""))


def _of_objectives() -> Iterator[Setting]:
    """The settings of all objectives; one that several have is listed once."""
    found: dict[str, Setting] = {}
    readers: dict[str, list[str]] = {}
    for recipe in RECIPES.values():
        texts: dict[str, str] = {}
        for kind in recipe.documented_by:
            texts |= option_help(kind)
        for setting in _of_class("objective", recipe.settings):
            text = texts.get(setting.name, "")
            found.setdefault(setting.name, dataclasses.replace(setting, text=text))
            readers.setdefault(setting.name, []).append(recipe.name)
    for name, setting in found.items():
        names = "" if readers[name] == ["metro"] else f"({', '.join(readers[name])}) "
        yield dataclasses.replace(setting, text=names + setting.text)


def parameters(settings: list[Setting]) -> list[inspect.Parameter]:
    """One keyword parameter of a typer command for each setting; all are texts or choices."""
    return [
        inspect.Parameter(
            setting.parameter,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                setting.hint if get_origin(setting.hint) is Literal else str | None,
                typer.Option(
                    f"--{setting.dotted}",
                    help=_help(setting),
                    metavar=_metavar(setting.hint),
                    show_default=False,
                    hidden=setting.hidden,
                    rich_help_panel=setting.section,
                ),
            ],
        )
        for setting in settings
    ]


def _help(setting: Setting) -> str:
    """The first sentence of the meaning, the choices and the default: a flag has a few lines."""
    first = re.split(r"(?<=\.) |; |: ", setting.text, maxsplit=1)[0].rstrip(".")
    parts = [first if first.count("(") == first.count(")") else first.partition(" (")[0]]
    if get_origin(setting.hint) is Literal:
        parts.append(" | ".join(get_args(setting.hint)))
    if setting.default is not None:
        parts.append(f"default {setting.default}")
    return "; ".join(part for part in parts if part)


def _metavar(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "NAME"
    parts = [part for part in get_args(hint) or (hint,) if part is not type(None)]
    short = {bool: "BOOL", int: "INT", float: "FLOAT", Path: "PATH"}
    return next((short[part] for part in parts if part in short), "TEXT")


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the flags gave, in sections.

    Args:
        values: Parameters of the command by name.
    """
    found: dict[str, Any] = {}
    for parameter, value in values.items():
        section, _, name = parameter.partition("__")
        if value is not None and name:
            found.setdefault(section, {})[name] = value
    return found


def command_class(settings: list[Setting]) -> type[TyperCommand]:
    """A command whose switches need no value, and whose lists may have several."""
    switches = {f"--{setting.dotted}" for setting in settings if setting.is_switch}
    lists = frozenset(f"--{setting.dotted}" for setting in settings if setting.is_list)

    class SectionsCommand(DottedCommand):
        listed = lists

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            """Give a switch without a value the value true, and a list all of its values."""
            full: list[str] = []
            for place, argument in enumerate(args):
                full.append(argument)
                following = args[place + 1] if place + 1 < len(args) else "--"
                if spell(argument) in switches and following.startswith("--"):
                    full.append("true")
            try:
                return super().parse_args(ctx, _gathered(full, lists))
            except USAGE_ERROR as error:
                if wrong := getattr(error, "option_name", None):
                    _name_what_is_meant(error, wrong, args, settings)
                raise

    return SectionsCommand


def _name_what_is_meant(
    error: Any, wrong: str, args: list[str], settings: Collection[Setting]
) -> None:
    """Name the flags that an unknown one may stand for, spelled as it was typed.

    The parser compares whole names, of which most is the section: of `--training.lr` it made
    `--training.fsdp`.
    """
    typed = next((each for each in args if spell(each.partition("=")[0]) == wrong), wrong)
    error.message = error.message.replace(wrong, typed.partition("=")[0])
    names = [setting.dotted for setting in settings]
    meant = similar(wrong.lstrip("-"), [*names, *TOP])
    error.possibilities = [f"--{name}" for name in meant] or error.possibilities


def _gathered(args: list[str], lists: Collection[str]) -> list[str]:
    """The values of a flag that is given several times as one list in YAML."""
    values: dict[str, list[str]] = {}
    others: list[str] = []
    rest = iter(args)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if spell(flag) in lists:
            values.setdefault(spell(flag), []).append(value if equals else next(rest, ""))
        else:
            others.append(argument)
    for flag, found in values.items():
        others[:0] = [flag, found[0] if len(found) == 1 else f"[{', '.join(found)}]"]
    return others
