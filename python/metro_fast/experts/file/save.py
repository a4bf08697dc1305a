"""The save of an expert: a new folder whole, or files in a folder with the weights last."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metro_fast._atomic import write_atomically, write_folder
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, EXPERT_FILE, PICKLED_WEIGHTS, WEIGHTS


def save_expert(
    file: NDArray[np.uint8],
    config: bytes | None,
    folder: str | Path,
    more: Callable[[Path], object] | None,
) -> Path:
    """Save the weights of an expert, its configuration and, as one with them, more files.

    Args:
        file: uint8, the bytes of the weights file.
        config: The bytes of adapter_config.json, or None.
        folder: As for `Expert.save`.
        more: Called with a folder, to which it writes more files; or None.

    Returns:
        The path of the weights file.

    Raises:
        MetroFastError: As for `Expert.save`.
        OSError: If the folder cannot be written to.
    """

    def write(temporary: Path) -> None:
        _refuse_others(Path(folder), config)
        if config is not None:
            write_atomically(temporary / CONFIG, config)
        write_atomically(temporary / EXPERT_FILE, file)
        if more is not None:
            more(temporary)

    write_folder(folder, write, keep_others=True, last=EXPERT_FILE)
    return Path(folder) / EXPERT_FILE


def _refuse_others(folder: Path, config: bytes | None) -> None:
    """Refuse a folder with files that would be read with the expert or instead of it."""
    for name in (WEIGHTS, PICKLED_WEIGHTS):
        if (folder / name).exists():
            raise MetroFastError(
                f"{folder} holds {name}, which PEFT would load instead of the expert: "
                "remove it or choose another folder"
            )
    there = folder / CONFIG
    if there.exists() and there.read_bytes() != config:
        raise MetroFastError(
            f"{folder} holds another {CONFIG}, and its weights would be read with the wrong "
            "one if this save were interrupted: remove it or choose another folder"
        )
