"""Parameters that are files of others, which are not part of the project and may be absent.

Where ../shared/data is absent, a test has one set of parameters, which is skipped with the reason.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[2] / "../shared/data"


def shared_files(*cases: Any, each_with: Sequence[Any] = ()) -> list[Any]:
    """One set of parameters per case: a path below ../shared/data, then the case's other values.

    Args:
        cases: A path, or a tuple that begins with one.
        each_with: Values (or tuples of values) that each case is combined with.
    """
    rows = [case if isinstance(case, tuple) else (case,) for case in cases]
    if each_with:
        more = [value if isinstance(value, tuple) else (value,) for value in each_with]
        rows = [row + values for row in rows for values in more]
    if not DATA.is_dir():
        cases_need = "1 case needs" if len(rows) == 1 else f"{len(rows)} cases need"
        reason = f"{cases_need} ../shared/data (files of others), which is absent"
        return [pytest.param(*rows[0], marks=pytest.mark.skip(reason), id="absent")]
    return [
        pytest.param((DATA / path).resolve(), *values, id="-".join(map(str, (path, *values))))
        for path, *values in rows
    ]


def real_adapters(*cases: Any, each_with: Sequence[Any] = ()) -> list[Any]:
    """The same for paths below ../shared/data/adapters: adapters that others have trained."""
    rows = [case if isinstance(case, tuple) else (case,) for case in cases]
    below = [(f"adapters/{path}", *values) for path, *values in rows]
    return shared_files(*below, each_with=each_with)
