"""Load, change and save a whole model in a command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from metro_fast._atomic import write_folder
from metro_fast._extras import require
from metro_fast._folder_lock import is_empty
from metro_fast._pretrained import check_weights, explained, has_tokenizer, load_tokenizer
from metro_fast.errors import MetroFastError


def load_base(name: str) -> Any:
    """Load a model of any architecture that transformers knows, in the dtype it was saved in.

    Args:
        name: Folder, or name on the Hub.

    Raises:
        FormatError: If one of its files is damaged, or a weight is missing or has no place.
        MetroFastError: If its config names no architecture that transformers has.
        OSError: If there is no such model.
    """
    transformers = require("transformers", "train")
    with explained(f"the model at {name}"):
        config = transformers.AutoConfig.from_pretrained(name)
        known = [a for a in config.architectures or [] if hasattr(transformers, a)]
        if not known:
            raise MetroFastError(
                f"the config of {name} names the architectures {config.architectures}, and "
                "transformers has none of them: add the expert in Python with add_to_base"
            )
        kind = getattr(transformers, known[0])
        found, info = kind.from_pretrained(name, dtype="auto", output_loading_info=True)
    check_weights(info, name)
    return found


def save_whole(model: Any, base: str, target: Path, extra: Callable[[Path], None]) -> None:
    """Write a model with its base's tokenizer: the folder is either whole or absent.

    Args:
        model: A transformers model.
        base: Folder or Hub name that the model was read from; the tokenizer is taken from there.
        target: Folder to write, which must be absent or empty.
        extra: Writes the other files of the folder.

    Raises:
        OSError: If the folder cannot be written.
    """

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        if not Path(base).is_dir() or has_tokenizer(Path(base)):
            load_tokenizer(base).save_pretrained(folder)
        extra(folder)

    write_folder(target, write)


def refuse_filled(target: Path) -> None:
    """Refuse a folder that is not empty; call it before the long work, not after it.

    Raises:
        MetroFastError: If the folder holds a file, or is a file itself.
    """
    if target.exists() and not (target.is_dir() and is_empty(target)):
        raise MetroFastError(f"{target} exists and is not empty: choose another folder")
