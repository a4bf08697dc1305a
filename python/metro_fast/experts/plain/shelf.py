"""A folder of decompressed experts that several servers of one user share.

Each version of an expert is decompressed once, whoever asks for it first, and is removed when a
newer one is there and no process holds it. Locks are the kernel's (flock), which releases them when
a process dies, however it does.
"""

import fcntl
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from metro_fast._folder_lock import has_name
from metro_fast._private_folder import private_folder

_LOCKS = ".locks"


class Shelf:
    """The plain folders of experts, by name and version.

    Args:
        folder: Where they are. It is made when it is first needed, readable by this user alone.
        variable: The environment variable that names it, for messages.
    """

    def __init__(self, folder: Path, variable: str) -> None:
        self._folder, self._variable = folder, variable
        self._held: dict[str, tuple[Path, int]] = {}
        self._guard = threading.Lock()

    def take(self, name: str, version: str, write: Callable[[Path], object]) -> Path:
        """The plain folder of a version of an expert, which is held until another one is taken.

        Args:
            name: The expert's name, which is that of a folder.
            version: A text of letters and digits that differs between versions.
            write: Makes the folder whose path it is given, as a whole or not at all.

        Raises:
            MetroFastError: If another user could write to the shelf.
            OSError: If the folder cannot be written; nothing is left of it.
        """
        private_folder(self._folder, self._variable)
        target = self._folder / f"{name}-{version}"
        with self._turn(name):
            if not target.is_dir():
                self._remove(self._unfinished(name))
                write(target)
            self._hold(name, target)
            self._remove(each for each in self._versions(name) if each != target)
        return target

    @contextmanager
    def _turn(self, name: str) -> Iterator[None]:
        """The turn of this thread among all threads and processes that want one expert."""
        locks = self._folder / _LOCKS
        locks.mkdir(mode=0o700, exist_ok=True)
        # Each open file has a lock of its own, so that threads wait for each other as well.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(locks / name, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _hold(self, name: str, target: Path) -> None:
        """Hold a folder, which keeps other processes from removing it, in place of the one held."""
        with self._guard:
            held, before = self._held.get(name, (None, -1))
            if held == target and has_name(before, target):
                return
            descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            self._held[name] = (target, descriptor)
            if held is not None:
                os.close(before)

    def _versions(self, name: str) -> list[Path]:
        """The folders of all versions of an expert."""
        found = (each for each in self._folder.iterdir() if each.is_dir())
        return [each for each in found if each.name.rpartition("-")[0] == name]

    def _unfinished(self, name: str) -> list[Path]:
        """The remains of processes that were killed; nobody else writes during our turn."""
        return [
            each
            for each in self._folder.glob(".*.tmp")
            if each.name[1:].removesuffix(".tmp").rpartition(".")[0].rpartition("-")[0] == name
        ]

    @staticmethod
    def _remove(folders: Iterable[Path]) -> None:
        """Remove the folders that no process holds."""
        for folder in folders:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # a server still reads it
                continue
            else:
                # A kill halfway must not leave a part of it under its own name.
                gone = folder
                if not folder.name.startswith("."):
                    gone = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
                    folder.rename(gone)
                shutil.rmtree(gone)
            finally:
                os.close(descriptor)
