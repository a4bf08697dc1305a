"""Merges of adapters that others have trained, against the sum of the updates of their tensors."""

from pathlib import Path

import numpy as np
import pytest

from metro_fast.experts import compress, merge, save_plain
from shared_files import real_adapters

pytestmark = pytest.mark.filterwarnings("ignore:the update of")
WEIGHTS = [0.5, -0.3]
REAL = [
    ("sd15_lora_analog/analog_svd_rank4.safetensors", "lora", ":down", ":up", 1.0, "m.safetensors"),
    ("gpt2_tigrinya_lora", None, ".lora_A.weight", ".lora_B.weight", 4.0, "merged"),
    ("gradience_tiny_lora", None, ".lora_A.weight", ".lora_B.weight", 2.0, "merged"),
]


@pytest.mark.parametrize(("path", "kind", "down", "up", "scaling", "out"), real_adapters(*REAL))
def test_a_weighted_sum_of_two_densities(path, kind, down, up, scaling, out, tmp_path: Path):
    """The scalings are 1 without an alpha, and 32 / 8 and 16 / 8 in the configurations."""
    from safetensors.numpy import load_file

    experts = [compress(path, kind=kind, density=k, alpha="least_squares") for k in (0.2, 0.5)]
    parts = [expert.arrays(np.float32) for expert in experts]
    vector = merge(experts, method="task_arithmetic", weights=WEIGHTS)
    save_plain(vector, tmp_path / out)
    file = tmp_path / out
    found = load_file(file if file.suffix else file / "adapter_model.safetensors")
    names = [name for name in parts[0] if name.endswith(down)]
    assert len(names) * 2 == len(found) == len(parts[0])
    for a in names[::7]:
        b = a.removesuffix(down) + up
        expected = sum(
            w * scaling * part[b].astype(np.float64) @ part[a]
            for w, part in zip(WEIGHTS, parts, strict=True)
        )
        product = found[b].astype(np.float64) @ found[a]
        np.testing.assert_allclose(product, expected, rtol=1e-5, atol=1e-6 * abs(expected).max())
