"""The models of one `metro-fast evaluate`: a base, or the base with each of several experts."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from metro_fast._extras import require
from metro_fast._shown import quoted
from metro_fast.cli.distinct_names import distinct_names
from metro_fast.errors import MetroFastError
from metro_fast.experts.hub.name import expert_name, hub_name

__all__ = ["model_names", "pick_device"]

# Folders that say nothing about the model in them.
_USUAL = {"main", "model", "final", "best", "expert", "adapter", "output"}


def model_names(
    model: str, experts: Sequence[str], given: str, *, with_base: bool = False
) -> list[str]:
    """The names of the models in every table: all different, and as short as that allows.

    Args:
        model: Folder of the model, or its name on the Hub.
        experts: The experts on it.
        given: A name for the only model, or nothing.
        with_base: Whether the model without any expert is one of them, the first one.

    Returns:
        One name for each expert, or for the model without any.

    Raises:
        MetroFastError: If a name is given for several models, or an expert is given twice.

    Example:
        >>> model_names("runs/1/main", [], "")
        ['1/main']
        >>> model_names("base", ["a/expert", "b/expert", "c"], "")
        ['a/expert', 'b/expert', 'c']
    """
    places = [*([model] if with_base or not experts else []), *experts]
    if given and len(places) > 1:
        what = "the model and an expert" if len(experts) == 1 else f"{len(experts)} experts"
        raise MetroFastError(
            f"--model-name is {quoted(given)}, but there are {what}: leave it out, and each is "
            "named by its folder"
        )
    if given:
        return [given]
    twice = [place for place, count in Counter(experts).items() if count > 1]
    if twice:
        raise MetroFastError(f"--expert {twice[0]} is given twice: leave one out")
    whole = [[*_parents(place), expert_name(place)] for place in places]
    depths = [2 if _says_nothing(parts[-1]) else 1 for parts in whole]
    return distinct_names(whole, "/", depths)


def pick_device(wanted: str) -> str:
    """The device of a process: the one asked for, else its own GPU, else the processor.

    Args:
        wanted: A name of a device, or `auto`.
    """
    if wanted != "auto":
        return wanted
    torch = require("torch", "eval")
    if not torch.cuda.is_available():
        return "cpu"
    # torchrun numbers the processes of a machine.
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def _parents(place: str) -> list[str]:
    if hub_name(place) is not None:
        return [part for part in str(place).split("/")[2:-1] if part]
    return [part for part in Path(place).resolve().parent.parts if part != "/"]


def _says_nothing(name: str) -> bool:
    return name in _USUAL or name.startswith("checkpoint-")
