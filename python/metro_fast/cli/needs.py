"""The optional dependencies of each command, checked by name before its work begins."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from metro_fast.errors import MissingExtraError

MODULES: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "train": (
        *("torch", "transformers", "accelerate", "datatrove", "tokenizers", "jinja2"),
        *("dill", "loguru", "tqdm"),
    ),
    "data": ("pyarrow", "datasets"),
    "peft": ("torch", "transformers", "accelerate", "peft", "safetensors", "huggingface_hub"),
    "eval": ("torch", "transformers", "accelerate", "jinja2", "matplotlib", "scipy", "xxhash"),
    "lm-eval": (
        "torch",
        "transformers",
        "accelerate",
        "jinja2",
        "matplotlib",
        "scipy",
        "xxhash",
        "lm_eval",
    ),
    "plot": ("matplotlib",),
    "compose": (
        *("torch", "transformers", "accelerate", "peft", "safetensors", "huggingface_hub"),
        "nevergrad",
    ),
}
"""The modules that each extra installs."""


Params = Mapping[str, Any]


def _always(_: Params) -> bool:
    return True


def _given(name: str, *values: Any) -> Callable[[Params], bool]:
    """Whether an option is given, with one of these values if there are any."""
    return lambda params: params.get(name) in values if values else bool(params.get(name))


def _on_the_hub(*names: str) -> Callable[[Params], bool]:
    """Whether an argument names an expert on the Hub."""

    def found(params: Params) -> bool:
        values = [params.get(name) for name in names]
        # Typer before 0.29 gives several values as a tuple.
        several = [value if isinstance(value, list | tuple) else [value] for value in values]
        texts = [each for value in several for each in value]
        return any(str(text).startswith("hf://") for text in texts)

    return found


@dataclass(frozen=True)
class Need:
    """Modules that a command needs, always or with some of its options.

    Attributes:
        extra: The extra of the package that installs them.
        modules: The modules; empty means all of the extra.
        when: Whether parameters of the command bring the need.
    """

    extra: str
    modules: tuple[str, ...] = ()
    when: Callable[[Params], bool] = _always

    def missing(self) -> list[str]:
        """Those of the modules that are not installed."""
        return [each for each in self.modules or MODULES[self.extra] if not _is_installed(each)]


_JINJA, _TORCH = ("jinja2",), ("torch", "transformers")
_TABLES = ("scipy",)
"""The needs of tables of saved answers."""
_RATING = (
    Need("eval", (*_TORCH, *_JINJA), _given("tasks")),
    Need("train", ("accelerate",), _given("examples")),
)


def _hub(*names: str) -> Need:
    return Need("peft", ("huggingface_hub",), _on_the_hub(*names))


NEEDS: Mapping[str, tuple[Need, ...]] = {
    "prepare": (Need("train"),),
    "pretrain": (Need("train"),),
    "finetune": (Need("train"), Need("peft", (), _given("method", "lora"))),
    "curves": (Need("train", (*_TORCH, "accelerate")), Need("plot", (), _given("png"))),
    "prompts import": (Need("eval", _JINJA),),
    "prompts check": (Need("eval", _JINJA),),
    "prompts read": (Need("lm-eval", ("lm_eval",), _given("kind", "lm-eval")),),
    "evaluate": (Need("eval"), Need("peft", (), _given("expert"))),
    "import-log": (Need("eval", _TABLES),),
    "compare": (Need("eval", _TABLES),),
    "report": (Need("eval", _TABLES),),
    "recompute": (Need("eval", _TABLES),),
    "plan": (Need("eval", _TABLES),),
    "expert compress": (_hub("source"),),
    "expert decompress": (_hub("source"),),
    "expert merge": (Need("peft", (), _given("base")), _hub("experts")),
    "expert compose": (Need("compose"), *_RATING),
    "expert tune": (Need("peft"), *_RATING),
    "expert export": (_hub("experts"),),
    "expert push": (Need("peft", ("huggingface_hub",)),),
    "expert card": (_hub("source"),),
    "expert similarity": (Need("eval", ("scipy",), _given("html")), _hub("experts")),
    "expert inspect": (_hub("path"),),
}
"""The needs of each command; one that is not here needs nothing besides the package."""


def check_needs(command_path: str, params: Params) -> None:
    """Refuse to begin a command whose optional dependencies are not installed.

    Args:
        command_path: The program and the command: "metro-fast expert merge".
        params: The parameters of the command.

    Raises:
        MissingExtraError: If something is missing; the message names all of it.

    Example:
        >>> check_needs("metro-fast env", {})
    """
    needs = NEEDS.get(command_path.partition(" ")[2], ())
    lacking = [(need.extra, need.missing()) for need in needs if need.when(params)]
    modules = list(dict.fromkeys(each for _, missing in lacking for each in missing))
    if not modules:
        return
    # An extra is named only for what no extra before it brings.
    extras: list[str] = []
    brought: set[str] = set()
    for extra, missing in lacking:
        if set(missing) - brought:
            extras.append(extra)
            brought |= {*missing, *MODULES[extra]}
    listed = " and ".join(filter(None, (", ".join(modules[:-1]), modules[-1])))
    are, them = ("is", "it") if len(modules) == 1 else ("are", "them")
    raise MissingExtraError(
        f"{listed} {are} not installed, and `{command_path}` needs {them} here. Install {them} "
        f"with: pip install 'metro_fast[{','.join(extras)}]'"
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
