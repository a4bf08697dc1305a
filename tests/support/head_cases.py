"""Inputs of the fused head whose logits are whole numbers, of which a product is exact."""

from typing import Any

import torch

PAIR = torch.tensor([2**62 + 5, 7])
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "no draw": {"seed_epoch": None},
    "own keys": {"sample_ids": torch.arange(9) * 2**40 + 3, "positions": torch.arange(9) * 5},
    "temperature": {"temperature": 0.5},
    "forbidden": {"forbidden": torch.tensor([3, 5, 255, 256, 699])},
    "excluded": {"exclude_targets": True},
    "all": {
        "temperature": 2.0, "forbidden": torch.arange(256, 512), "exclude_targets": True,
        "bias": True, "softcap": 6.0,
    },
}  # fmt: skip
NONE = {
    "bias": None, "softcap": None, "seed_epoch": PAIR, "sample_ids": None, "positions": None,
    "temperature": 1.0, "forbidden": None, "exclude_targets": False,
}  # fmt: skip


def inputs(case: str) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], dict[str, Any]]:
    """Rows whose logits are whole numbers, of which a product is exact in any order."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(-9, 9, (9, 700), generator=generator).float()
    weight = torch.zeros(700, 40)
    weight[:, :9] = logits.t()
    targets = torch.randint(0, 700, (9,), generator=generator)
    options = NONE | CASES[case]
    if options["bias"]:
        options["bias"] = torch.randint(-2, 3, (700,), generator=generator).float()
    return (torch.eye(9, 40), weight, targets), options
