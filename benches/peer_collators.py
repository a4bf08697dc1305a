"""Other people's collators, loaded from the checkout that an environment variable names."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import transformers


def _take(name: str, variable: str, path: str, given: dict[str, Any]) -> Any:
    """One class or function of a file in the checkout that a variable names.

    The rest of such a file needs packages that are absent, or does not run at all. Skips where the
    variable is not set.
    """
    checkout = os.environ.get(variable)
    if not checkout:
        pytest.skip(f"{variable} names no checkout")
    file = Path(checkout) / path
    pattern = rf"^(?:@dataclass\n)?(?:class|def) {name}\b.*?(?=^\S)"
    found = re.search(pattern, file.read_text(), re.M | re.S)
    assert found is not None, f"{file} has no {name}"
    module = ModuleType(name)
    sys.modules[name] = module  # A dataclass looks up its module.
    module.__dict__.update(given, np=np)
    exec(compile(found[0], str(file), "exec"), module.__dict__)
    return module.__dict__[name]


class _Vocabulary:
    """The part of a tokenizer that nanoT5's collator needs."""

    eos_token_id = 1

    def __len__(self) -> int:
        return 32_100


def nanot5(rows: np.ndarray) -> tuple[Any, list[dict[str, np.ndarray]]]:
    """nanoT5's collator (github.com/PiotrNawrot/nanoT5) and the rows as it takes them."""
    given = {
        "dataclass": dataclass,
        "BatchEncoding": transformers.BatchEncoding,
        "AutoTokenizer": transformers.AutoTokenizer,
        "torch": torch,
        "Dict": dict,
        "List": list,
    }
    kind = _take("DataCollatorForT5MLM", "METRO_FAST_NANOT5", "nanoT5/utils/copied_utils.py", given)
    collator = kind(
        tokenizer=_Vocabulary(),
        noise_density=0.15,
        mean_noise_span_length=3.0,
        input_length=512,
        target_length=114,
        pad_token_id=0,
    )
    return collator, [{"input_ids": row.astype(np.int64)} for row in rows]


def metro_t0_masks() -> Any:
    """`generate_masks` of gonglinyuan/metro_t0: the first step of its T5 baseline."""
    path = "training/fairseq/data/t5_dataset.py"
    return _take("generate_masks", "METRO_FAST_METRO_T0", path, {})
