"""What `compress` and `fidelity` take: a folder, a file, a PeftModel or a state dict."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metro_fast.errors import MetroFastError
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


def read_source(source: Any) -> tuple[Adapter | None, Mapping[str, Any]]:
    """The PEFT adapter, if it is one, and its weights by name.

    A path may be a PEFT folder, the weights file in it, any other file that `read_state` reads, or
    a folder with a model of transformers.

    Raises:
        FileNotFoundError: If nothing is there.
        MetroFastError: If it is a name of the Hub.
        TypeError: If it is none of these.
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
        adapter = read_folder(path)
    elif hasattr(source, "peft_config"):
        adapter = read_model(source, source.active_adapter)
    else:
        raise TypeError(
            f"source is a {type(source).__name__}, expected a path, a PeftModel or a state dict"
        )
    return adapter, adapter.state


def read_initial(initial: Any) -> Mapping[str, Any] | None:
    """Initial values by name: as they are, or read by `read_source`'s rules.

    Raises:
        TypeError: If it is neither a mapping nor a path.
    """
    if initial is None or isinstance(initial, Mapping):
        return initial
    if not isinstance(initial, str | Path):
        kind = type(initial).__name__
        raise TypeError(f"initial is a {kind}, expected a state dict or a path")
    return read_source(initial)[1]


def _is_model(folder: Path) -> bool:
    return any((folder / f"model.safetensors{more}").exists() for more in ("", ".index.json"))
