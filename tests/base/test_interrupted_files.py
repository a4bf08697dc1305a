"""An exception at every step of a read or a write: it is the one that comes out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from interruptions import Injection, Stop
from metro_fast._atomic import write_atomically, write_folder
from metro_fast._folder_lock import owned_folder
from metro_fast._memory import read_small
from metro_fast._regular import read_array


def own(folder: Path) -> None:
    with owned_folder(folder):
        (folder / "a.txt").write_text("own")


DOORS: dict[str, Callable[[Path], object]] = {
    "read_array": lambda folder: read_array(folder / "a.txt"),
    "read_small": lambda folder: read_small(folder / "a.txt"),
    "write_atomically": lambda folder: write_atomically(folder / "a.txt", "after"),
    "write_folder": lambda folder: write_folder(
        folder / "b", lambda made: (made / "a.txt").write_text("after")
    ),
    "owned_folder": own,
}


# A file whose opening is interrupted is left to the garbage collector, which says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", DOORS)
def test_the_exception_is_the_one_that_comes_out(name: str, tmp_path: Path) -> None:
    work = DOORS[name]
    (tmp_path / "a.txt").write_text("before")
    count = Injection(0)
    assert count.run(lambda: work(tmp_path)) is None
    assert count.events > 50
    wrong = []
    for at in range(1, count.events + 1):
        one = Injection(at, Stop)
        error = one.run(lambda: work(tmp_path))
        if one.where is not None and not isinstance(error, Stop):
            wrong.append(f"{one.where}: {error!r}")
    assert wrong == []
