"""Sources of weights for `compress` and `fidelity`: folders, files, PeftModels and state dicts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.absent import absent
from metro_fast.experts.adapters.peft_folder import (
    CONFIG,
    PICKLED_WEIGHTS,
    WEIGHTS,
    Adapter,
    read_folder,
    read_model,
)
from metro_fast.experts.adapters.state_file import read_state
from metro_fast.experts.hub.name import hub_name

EXPECTED = (
    f"a PEFT folder ({CONFIG} with {WEIGHTS} or {PICKLED_WEIGHTS}), a file of weights or the "
    "folder of a model"
)


def read_source(source: Any) -> tuple[Adapter | None, Mapping[str, Any]]:
    """Read a source: its weights by name, and the PEFT adapter that they are, if they are one.

    A path may be a PEFT folder, the weights file in it, any other file that `read_state` reads, or
    a folder with a model of transformers.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        MetroFastError: If it is a name on the Hub.
        TypeError: If it is something else.
    """
    if isinstance(source, Mapping):
        return None, source
    if isinstance(source, str | Path):
        name = hub_name(source)
        if name is not None:
            raise MetroFastError(
                f"{name} is on the Hub, from which only compressed experts are read: fetch the "
                f"adapter with `hf download {name.repo} --local-dir FOLDER` and give the folder"
            )
        path = Path(source)
        if path.name in (WEIGHTS, PICKLED_WEIGHTS) and (path.parent / CONFIG).exists():
            path = path.parent
        if not (path / CONFIG).exists() and (path.is_file() or _is_model(path)):
            return None, read_state(path)
        if not (path / CONFIG).exists():
            raise absent(path, "adapter", EXPECTED)
        adapter = read_folder(path)
    elif hasattr(source, "peft_config"):
        adapter = read_model(source, source.active_adapter)
    else:
        raise TypeError(
            f"source is a {type(source).__name__}, expected a path, a PeftModel or a state dict"
        )
    return adapter, adapter.state


def read_initial(
    initial: Mapping[str, Any] | str | Path | None,
) -> Mapping[str, Any] | None:
    """Initial values by name; a path is read as `read_source` reads it.

    Raises:
        TypeError: If it is neither a mapping nor a path.
    """
    if initial is None or isinstance(initial, Mapping):
        return initial
    if isinstance(initial, str | Path):
        return read_source(initial)[1]
    raise TypeError(f"initial is a {type(initial).__name__}, expected a state dict or a path")


def _is_model(folder: Path) -> bool:
    return any((folder / f"model.safetensors{more}").exists() for more in ("", ".index.json"))
