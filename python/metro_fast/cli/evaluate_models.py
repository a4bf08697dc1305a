"""The models of one `metro-fast evaluate`: a base, or the base with each of several experts."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_fast._adapter import load_adapter
from metro_fast._extras import require
from metro_fast._pretrained import load_model, load_tokenizer
from metro_fast._shown import quoted
from metro_fast.cli.distinct_names import distinct_names
from metro_fast.errors import MetroFastError
from metro_fast.experts import EXPERT_FILE, load_expert
from metro_fast.experts.adapters.peft_folder import CONFIG
from metro_fast.experts.hub.fetch import resolve_expert
from metro_fast.experts.hub.name import expert_name, hub_name
from metro_fast.robustness.probe import probe_logits, warn_if_unchanged
from metro_fast.scoring import model_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["experts_on", "model_names", "pick_device"]

# Folders that say nothing about the model in them.
_USUAL = {"main", "model", "final", "best", "expert", "adapter", "output"}


def experts_on(
    model: str, experts: Sequence[str], device: str
) -> "Iterator[tuple[PreTrainedModel, PreTrainedTokenizerBase]]":
    """Load a model once, and put one expert after the other on it.

    Args:
        model: Folder of the model, or its name on the Hub.
        experts: Folders of compressed experts (or names on the Hub, `hf://owner/name`) or of plain
            PEFT adapters; without any, the model alone is given.
        device: Where the model is put.

    Yields:
        The model with each expert, until the next one is asked for, and the tokenizer.

    Raises:
        OSError: If there is no such model or expert; all are looked for before any is loaded.
        FormatError: If one of their files is damaged, a weight is missing or has no place, or an
            expert was made for another model.

    Warns:
        UserWarning: If an expert changes no logit.
    """
    paths = [_found(expert) for expert in experts]
    tokenizer, base = load_tokenizer(model), load_model(model).eval().to(device)
    if not experts:
        yield base, tokenizer
        return
    known = model_fingerprint(base)
    for number, (path, expert) in enumerate(zip(paths, experts, strict=True)):
        if number and model_fingerprint(base) != known:
            # An expert of whole weights is added to the base, and cannot be removed exactly.
            base = load_model(model).eval().to(device)
        adapted = _with_expert(base, path, expert)
        yield adapted, tokenizer
        base = _without_expert(adapted)


def model_names(model: str, experts: Sequence[str], given: str) -> list[str]:
    """The names of the models in every table: all different, and as short as that allows.

    Args:
        model: Folder of the model, or its name on the Hub.
        experts: The experts on it.
        given: A name for the only model, or nothing.

    Returns:
        One name for each expert, or for the model without any.

    Raises:
        MetroFastError: If a name is given for several experts, or an expert is given twice.

    Example:
        >>> model_names("runs/1/main", [], "")
        ['1/main']
        >>> model_names("base", ["a/expert", "b/expert", "c"], "")
        ['a/expert', 'b/expert', 'c']
    """
    if given and len(experts) > 1:
        raise MetroFastError(
            f"--model-name is {quoted(given)}, but there are {len(experts)} experts: leave it out, "
            "and each is named by its folder"
        )
    if given:
        return [given]
    places = list(experts) or [model]
    twice = [place for place, count in Counter(places).items() if count > 1]
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


def _found(expert: str) -> Path:
    path = resolve_expert(expert)
    if not path.exists():
        raise FileNotFoundError(f"{expert} does not exist")
    return path


def _with_expert(model: Any, path: Path, expert: str) -> Any:
    before = probe_logits(model.eval())
    if path.is_file() or (path / EXPERT_FILE).is_file():
        adapted = load_expert(model, path)
    elif (path / CONFIG).is_file():
        adapted = load_adapter(model, path)
    else:
        raise FileNotFoundError(
            f"{expert} holds neither {EXPERT_FILE} nor {CONFIG}: give the folder of a compressed "
            "expert or of a PEFT adapter"
        )
    warn_if_unchanged(before, probe_logits(adapted.eval()), expert)
    return adapted


def _without_expert(adapted: Any) -> Any:
    """The base, where PEFT can take an adapter off; otherwise whatever it is now."""
    unload = getattr(adapted, "unload", None)
    return adapted if unload is None else unload()
