"""`metro-fast pretrain`: METRO, or one of its baselines, on a prepared corpus."""

import inspect
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from metro_fast._shown import printable
from metro_fast.cli.config import RESOLVED, read_config
from metro_fast.cli.dotted import spell
from metro_fast.cli.messages import is_first_rank
from metro_fast.cli.sections import TOP, all_settings, command_class, given, parameters
from metro_fast.errors import MetroFastError
from metro_fast.metro import PretrainConfig, pretrain
from metro_fast.metro.recipes import RECIPE_NAMES, layered, read_recipe
from metro_fast.metro.settings import as_mapping, unknown

SETTINGS = list(all_settings())

Output = Annotated[
    Path | None, typer.Option(help="Folder for the models, checkpoints and metrics.jsonl.")
]
Init = Annotated[
    str | None,
    typer.Option(help="Folder or Hub name of the encoder-decoder to start from.", metavar="MODEL"),
]
Resume = Annotated[
    bool | None, typer.Option("--resume/--no_resume", help="Continue the run in the output folder.")
]
Threads = Annotated[int | None, typer.Option(help="CPU threads; 0 leaves torch's choice.")]
RecipeName = Annotated[
    Literal[RECIPE_NAMES] | None,  # type: ignore[valid-type]
    typer.Option(help="A published run, or a tiny one, to start the settings from."),
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="YAML file of sections; it overrides the recipe."),
]


def _command(
    *,
    output: Output = None,
    init: Init = None,
    recipe: RecipeName = None,
    config: Config = None,
    resume: Resume = None,
    num_threads: Threads = None,
    **flags: Any,
) -> None:
    """Pretrain an encoder-decoder on a prepared corpus: METRO, span, UL2.

    Settings come in sections, each a flag --section.name and a key of the YAML file; flags override
    the file, and the file the recipe. With --resume, what is not given stays as the run has it. The
    section training takes any field of
    MetroTrainingArguments, that is, of transformers.TrainingArguments (--training.torch_compile,
    --training.gradient_checkpointing, --training.report_to wandb, ...).
    """
    top = {"output": output, "init": init, "resume": resume, "num_threads": num_threads}
    layers: list[tuple[str, dict[str, Any]]] = []
    if resume and output is not None and (output / RESOLVED).is_file():
        # A resumed run keeps its settings, so that only the changes need to be given.
        layers.append((str(output / RESOLVED), read_sections(output / RESOLVED)))
    if recipe is not None:
        layers.append((f"recipe {recipe}", read_recipe(recipe)))
    if config is not None:
        layers.append((str(config), read_sections(config)))
    layers.append(("flags", {**{k: v for k, v in top.items() if v is not None}, **given(flags)}))
    typer.echo(f"wrote {pretrain(PretrainConfig(**_together(layers)))}")


def read_sections(path: Path) -> dict[str, Any]:
    """Read a YAML file of sections; names may also be dotted (`training.max_steps: 5`).

    Raises:
        MetroFastError: If it is not such a file, or has an unknown section.
        OSError: If it cannot be read.
    """
    sections = {setting.section for setting in SETTINGS}
    found: dict[str, Any] = {}
    for name, value in read_config(path).items():
        section, dot, rest = name.partition(".")
        if section not in sections and name not in TOP:
            names = [*TOP, *sections, *(setting.dotted for setting in SETTINGS)]
            raise MetroFastError(f"{path}: {_elsewhere(name) or unknown(name, names)}")
        if dot:
            found.setdefault(section, {})[rest] = value
        elif section in sections:
            found[section] = {**found.get(section, {}), **as_mapping(value, section)}
        else:
            found[name] = value
    return found


def _elsewhere(name: str) -> str | None:
    """The message for a setting without its section."""
    homes = [setting.dotted for setting in SETTINGS if setting.name == name]
    return f"{name} is a setting of a section: give {' or '.join(homes)}" if homes else None


def _together(layers: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """All layers in one, the last on top; says what a layer makes void below it."""
    found: dict[str, Any] = {"output": None, "data": {}}
    for number, (_, layer) in enumerate(layers):
        found, left_out = layered(found, layer)
        below = " and ".join(name for name, _ in layers[:number])
        for why, names in left_out.items():
            if is_first_rank():
                typer.echo(
                    printable(f"left out {', '.join(names)} of {below}, since {why}"), err=True
                )
    return found


# The flags in the place of `**flags`.
_OWN = list(inspect.signature(_command).parameters.values())[:-1]
_PARAMETERS = [*_OWN, *parameters(SETTINGS)]
_command.__signature__ = inspect.Signature(_PARAMETERS)  # type: ignore[attr-defined]
_command.__annotations__ = {each.name: each.annotation for each in _PARAMETERS}
app = typer.Typer(add_completion=False, rich_markup_mode=None)
app.command(
    cls=command_class(SETTINGS),
    context_settings={"token_normalize_func": spell},
)(_command)
