"""Sources of weights for `compress` and `fidelity`: folders, files, PeftModels and state dicts."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.absent import absent
from metro_fast.experts.adapters.live_model import save_adapter, unwrapped
from metro_fast.experts.adapters.peft_folder import (
    CONFIG,
    PICKLED_WEIGHTS,
    WEIGHTS,
    Adapter,
    read_folder,
    read_weights,
)
from metro_fast.experts.adapters.state_file import read_state
from metro_fast.experts.hub.name import hub_name

DIFFUSERS_WEIGHTS = ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin")
"""The files of the folder that diffusers writes; it looks for them in this order."""

EXPECTED = (
    f"a PEFT folder ({CONFIG} with {WEIGHTS} or {PICKLED_WEIGHTS}), a file of weights or the "
    "folder of a model"
)


def read_source(source: Any) -> tuple[Adapter | None, Mapping[str, Any]]:
    """Read a source: its weights by name, and the PEFT adapter that they are, if they are one.

    A path may be a PEFT folder, a folder with a model of transformers, a folder that diffusers
    wrote, or a file, which is then read whatever other files are beside it; the configuration of an
    adapter is taken from beside its file. A model gives what its own `save_pretrained` writes.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        MetroFastError: If it is a name on the Hub, or a model that cannot save its adapter alone.
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
        return _read_path(Path(source))
    model = unwrapped(source)
    if hasattr(model, "peft_config"):
        with tempfile.TemporaryDirectory() as folder:
            return _read_path(save_adapter(model, Path(folder)))
    if hasattr(model, "state_dict"):
        raise TypeError(
            f"source is a {type(source).__name__} without an adapter: give the folder that its "
            "save_pretrained writes, or its state_dict(), and its kind"
        )
    raise TypeError(
        f"source is a {type(source).__name__}, expected a path, a PeftModel or a state dict"
    )


def _read_path(path: Path) -> tuple[Adapter | None, Mapping[str, Any]]:
    if path.is_dir():
        if (path / CONFIG).exists():
            adapter = read_folder(path)
            return adapter, adapter.state
        files = (path / name for name in DIFFUSERS_WEIGHTS)
        path = next((file for file in files if file.exists()), path)
        if path.is_dir() and not _is_model(path):
            raise absent(path, "adapter", EXPECTED)
    elif not path.exists():
        raise absent(path, "adapter", EXPECTED)
    if path.name in (WEIGHTS, PICKLED_WEIGHTS) and path.with_name(CONFIG).exists():
        adapter = read_weights(path)
        return adapter, adapter.state
    return None, read_state(path)


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
