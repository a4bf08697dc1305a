"""A whole model that a command reads, changes and writes."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast._pretrained import explained, has_tokenizer, load_tokenizer
from metro_fast.errors import MetroFastError


def load_base(name: str) -> Any:
    """A model of any architecture that transformers knows, in the dtype that it was saved in.

    Args:
        name: Folder, or name on the Hub.

    Raises:
        FormatError: If a file of it is damaged, or it names no architecture.
        OSError: If there is no such model.
    """
    transformers = require("transformers", "train")
    with explained(f"the model at {name}"):
        config = transformers.AutoConfig.from_pretrained(name)
        known = [a for a in config.architectures or [] if hasattr(transformers, a)]
        if not known:
            raise MetroFastError(
                f"{name} names no architecture of transformers ({config.architectures}): add the "
                "expert in Python with add_to_base"
            )
        return getattr(transformers, known[0]).from_pretrained(name, dtype="auto")


def save_whole(model: Any, base: str, target: Path, extra: Callable[[Path], None]) -> None:
    """Write a model and its base's tokenizer: the folder is there whole or not at all.

    Args:
        model: A transformers model.
        base: Folder or Hub name that it was read from, where the tokenizer is.
        target: Folder, which must not exist or be empty.
        extra: Writes what else belongs into the folder.

    Raises:
        OSError: If the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name[:200]}.") as folder:
        whole = Path(folder) / "model"
        model.save_pretrained(whole)
        if not Path(base).is_dir() or has_tokenizer(Path(base)):
            load_tokenizer(base).save_pretrained(whole)
        extra(whole)
        if target.exists():
            target.rmdir()
        shutil.move(whole, target)


def refuse_filled(target: Path) -> None:
    """Refuse a folder that something lies in; ask before long work, not after it.

    Raises:
        MetroFastError: If something does.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise MetroFastError(f"{target} exists and is not empty: choose another folder")
