"""Draws and sums of the Triton head in Triton's interpreter: `python run_head_kernel.py OUT`.

A process of its own, because the interpreter is chosen when Triton is imported.
"""

import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

from typing import Any

import torch

from head_cases import CASES, inputs
from metro_fast.errors import MetroFastError
from metro_fast.ops.cuda.head_kernel import sweep


def bad_rows() -> list[str]:
    """The messages of a NaN, and of a row whose tokens are all forbidden."""
    (hidden, weight, targets), options = inputs("plain")
    found = []
    for change in ("nan", "one inf", "forbidden"):
        rows, given = hidden.clone(), dict(options)
        if change == "nan":
            rows[4] = torch.nan
        elif change == "one inf":
            given["bias"] = torch.zeros(700).index_fill(0, torch.tensor([300]), torch.inf)
        else:
            given["forbidden"] = torch.arange(700)
        try:
            sweep(rows, weight, targets, **given)
        except MetroFastError as error:
            found.append(str(error))
    return found


if __name__ == "__main__":
    results: dict[str, Any] = {}
    for name in CASES:
        tensors, given = inputs(name)
        results[name] = tuple(sweep(*tensors, **given))
    torch.save({"cases": results, "errors": bad_rows()}, sys.argv[1])
