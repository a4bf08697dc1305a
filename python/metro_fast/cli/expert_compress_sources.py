"""The sources of one `metro-fast expert compress`, and the folder that each is written to."""

import errno
import glob
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from metro_fast._atomic import replace_folder, write_atomically, write_folder
from metro_fast._shown import shown
from metro_fast.cli.config import RESOLVED
from metro_fast.cli.distinct_names import distinct_names
from metro_fast.errors import MetroFastError
from metro_fast.experts import Expert
from metro_fast.experts.adapters.peft_folder import CONFIG, EXPERT_FILE, PICKLED_WEIGHTS, WEIGHTS

_PLAIN = (WEIGHTS, PICKLED_WEIGHTS)


def find_sources(given: Sequence[Path], dense: Sequence[str] | None) -> list[Path]:
    """The sources in order, with patterns (`adapters/*`) that the shell left as they are expanded.

    Args:
        given: The arguments of the command.
        dense: The values of `--dense`; with any, a source that is absent may be meant as another.

    Raises:
        MetroFastError: If a pattern matches nothing, or a source is given twice.
    """
    found: list[Path] = []
    for path in given:
        if path.exists() or not glob.has_magic(str(path)):
            found.append(path)
            continue
        root, pattern = Path(path.anchor), str(path.relative_to(path.anchor))
        matching = sorted(root.glob(pattern))
        if not matching:
            raise MetroFastError(f"{shown(str(path))} matches no file and no folder")
        found += matching
    absent = [path for path in found if dense and not path.exists()]
    if absent:
        raise MetroFastError(
            f"there is no {shown(str(absent[0]))}; if it is a value of --dense, give the flag "
            "before each value, --dense A --dense B"
        )
    counts = Counter(path.resolve() for path in found)
    twice = [path for path in found if counts[path.resolve()] > 1]
    if twice:
        raise MetroFastError(f"{shown(str(twice[0]))} is given twice: leave one out")
    return found


def target_folders(sources: Sequence[Path], target: Path) -> list[Path]:
    """The folder to write each source to: the target itself for one, a folder in it for several.

    Raises:
        FileExistsError: If the target is a file.
        MetroFastError: If there are several sources, and the target has an adapter in it.
    """
    if target.exists() and not target.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    if len(sources) == 1:
        return [target]
    for name in (*_PLAIN, EXPERT_FILE, CONFIG):
        if (target / name).exists():
            raise MetroFastError(
                f"{target} holds {name}, but the last argument is the folder in which each of the "
                f"{len(sources)} sources gets one of its own: name a new folder last"
            )
    return [target / name for name in folder_names(sources)]


def folder_names(sources: Sequence[Path]) -> list[str]:
    """Names that are all different, and as short as that allows.

    Example:
        >>> folder_names([Path("runs/a/adapter"), Path("runs/b/adapter"), Path("sst2.npy")])
        ['a-adapter', 'b-adapter', 'sst2']
    """
    whole = [_parts(path) for path in sources]
    twice = Counter(map(tuple, whole))
    for place, path in enumerate(sources):
        if twice[tuple(whole[place])] > 1:  # prompt.npy beside prompt.bin
            whole[place] = [*whole[place][:-1], path.name]
    return distinct_names(whole, "-")


def refuse_existing(folder: Path, source: Path, *, replace: bool) -> None:
    """Refuse a folder with an adapter in it, before the work.

    A plain adapter is never replaced: it may be the only copy of what was trained. The source's
    own configuration alone is what a save that was killed leaves.

    Raises:
        MetroFastError: Naming the file.
    """
    for name in _PLAIN:
        if (folder / name).exists():
            raise MetroFastError(
                f"{folder} holds {name}, a plain adapter, which is not replaced: choose another "
                "folder"
            )
    own = (source if source.is_dir() else source.parent) / CONFIG
    there = folder / CONFIG
    left = there.exists() and own.exists() and there.read_bytes() == own.read_bytes()
    for name in (EXPERT_FILE,) if left else (EXPERT_FILE, CONFIG):
        if (folder / name).exists() and not replace:
            raise MetroFastError(
                f"{folder} holds {name} already: give --replace to overwrite it, or choose another "
                "folder"
            )


def replace_expert(expert: Expert, folder: Path, more: Callable[[Path], object]) -> None:
    """Save an expert over the one in a folder, which is as it was if the new one cannot be written.

    Args:
        expert: The expert.
        folder: The folder.
        more: Writes what comes with the expert, as one with it.

    Raises:
        OSError: If it cannot be written.
    """

    def write(temporary: Path) -> None:
        write_atomically(temporary / EXPERT_FILE, expert.file)
        if expert.config is not None:
            write_atomically(temporary / CONFIG, expert.config)
        more(temporary)

    config = folder / CONFIG
    if config.exists() and config.read_bytes() != expert.config:
        # The old weights are never beside the configuration of another adapter.
        replace_folder(folder, write, {CONFIG, EXPERT_FILE, RESOLVED}, EXPERT_FILE)
    else:
        write_folder(folder, write, keep_others=True, last=EXPERT_FILE)


def _parts(path: Path) -> list[str]:
    """The parts of a source's path that can name it; a file of PEFT is named by its folder."""
    whole = path.resolve()
    if whole.name in _PLAIN and (whole.parent / CONFIG).exists():
        whole = whole.parent
    name = whole.name if whole.is_dir() else whole.stem
    return [*(part for part in whole.parent.parts if part != whole.anchor), name or "adapter"]
