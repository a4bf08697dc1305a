"""Training and evaluation whose every write may fail or be the last: `fault_table.py` has all."""

import sys

import pytest

from fault_table import table
from faults import COMPILER

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C compiler"),
    pytest.mark.skipif(sys.platform != "linux", reason="faults.c is for Linux"),
]


@pytest.mark.slow  # each point is two runs
@pytest.mark.parametrize(("name", "most"), [("pretrain", 5), ("finetune", 6), ("evaluate", 12)])
def test_a_fault_leaves_a_state_from_which_the_next_call_resumes(name: str, most: int) -> None:
    (row,) = table("run_fault_cases", name, most=most)
    # torch hides the error of the system; where it comes only once, it is not found again.
    wrong = [text for text in row["wrong"] if not text.startswith(("fail ENOSPC", "fail EACCES"))]
    assert wrong == []
    assert (row["points"], row["went_on"]) == (most, most)
