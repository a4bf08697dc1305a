"""Real adapters compressed: bytes of whole files, and the fidelity of each module's update.

`python benches/real_adapters.py [FOLDER]` reads the adapters that people have published from FOLDER
(../shared/data/adapters by default; nothing is downloaded), compresses each at 5, 10, 20, 30 and
50 % by role, and writes benches/results/real_adapters.json (all modules' cosines and norm ratios),
real_adapters.md (the tables) and the tables of docs/experts.md. gradience_tiny_lora is Gaussian
noise in the shape of an adapter: a cosine must be compared with the one that remains of noise.
"""

import argparse
import json
import platform
import re
import statistics
import warnings
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
from real_adapters_checks import CHECKS
from real_adapters_tables import embed, markdown

from metro_fast import _core
from metro_fast.experts import Expert, compress, fidelity
from metro_fast.experts.file.describe import entropy

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs/experts.md"
ADAPTERS = Path(__file__).resolve().parents[2] / "shared/data/adapters"
DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5)
KILOBYTES = 2000
FILES = {
    "T0-3B IA3": ("t0_3b_ia3_tfew/t03b_ia3_finish.pt", "ia3"),
    "GPT-2 LoRA": ("gpt2_tigrinya_lora", None),
    "SD 1.5 LoRA": ("sd15_lora_analog/analog_svd_rank4.safetensors", "lora"),
    "prompt sst2": ("t5v11_base_prompts/sst2.npy", None),
    "prompt rte": ("t5v11_base_prompts/rte.npy", None),
    "RoBERTa bottleneck": ("roberta_imdb_pfeiffer/pytorch_adapter.bin", "other"),
    "Gaussian control": ("gradience_tiny_lora", None),
}


def layout(expert: Expert) -> dict[str, int]:
    """The bytes of a file by their use."""
    sizes = {name: end - start for name, _, _, start, end in _core.decode_safetensors(expert.file)}
    streams = -(-expert.manifest.trits // (64 * expert.steps))
    return {
        "S": expert.steps,
        "streams": streams,
        "states": 256 * streams,
        "index and guard": 32 + 16 * streams + 256,
        "manifest": sizes["compeft.manifest"],
        "safetensors header": expert.nbytes - sum(sizes.values()),
    }


def measure(path: Path, kind: str | None, density: float) -> dict:
    """One adapter at one density: bytes, alphas, modules."""
    fixed, fitted, size = (
        compress(path, kind=kind, density=density, alpha=alpha, profile=profile)
        for alpha, profile in ((1.0, "default"), ("least_squares", "default"), (1.0, "size"))
    )
    parameters = fixed.manifest.parameters
    bound = entropy(density) * parameters / 8
    rows, other = fidelity(path, fixed), fidelity(path, fitted)
    # Scales of A and B do not turn an update: the cosine does not depend on alpha.
    assert np.allclose([r.cosine for r in rows], [r.cosine for r in other], atol=1e-6)
    cosines = [row.cosine for row in rows]
    return {
        "density": density,
        "parameters": parameters,
        "bytes": fixed.nbytes,
        "bytes_least_squares": fitted.nbytes,
        "bytes_size_profile": size.nbytes,
        "ratio_to_16_bit": 2 * parameters / fixed.nbytes,
        "shannon_bytes": round(bound),
        "over_shannon": fixed.nbytes / bound,
        "over_shannon_and_2_kB": fixed.nbytes / (bound + KILOBYTES),
        "layout": layout(fixed),
        "layout_size_profile": layout(size),
        "alpha_found": {group.name: group.alpha for group in fitted.manifest.groups},
        "cosine": {
            "min": min(cosines),
            "median": statistics.median(cosines),
            "max": max(cosines),
        },
        "norm_ratio_median": {
            "alpha 1": statistics.median(row.norm_ratio for row in rows),
            "least squares": statistics.median(row.norm_ratio for row in other),
        },
        "modules": {
            row.module: [
                round(row.cosine, 4),
                round(row.norm_ratio, 4),
                round(fit.norm_ratio, 4),
            ]
            for row, fit in zip(rows, other, strict=True)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ADAPTERS)
    folder = parser.parse_args().folder
    # Erased modules are measured here, and need no warning.
    warnings.filterwarnings("ignore", "(the update of|group)", UserWarning)
    versions = {name: metadata.version(name) for name in ("metro_fast", "numpy", "torch", "peft")}
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "path": _core.simd_level(),
        "versions": versions,
        "modules": "by name: cosine, norm ratio at alpha 1, norm ratio at least squares",
        "adapters": {},
        "checks": [],
    }
    for name, (file, kind) in FILES.items():
        result["adapters"][name] = [measure(folder / file, kind, k) for k in DENSITIES]
        print(f"{name}: measured", flush=True)
    for check in CHECKS:
        title, about, rows = check(folder)
        result["checks"].append((title, about, rows))
        print(f"{title}: measured", flush=True)
    text = json.dumps(result, indent=1)
    # One line per module.
    text = re.sub(r"\[\s+([-\d.e]+),\s+([-\d.e]+),\s+([-\d.e]+)\s+\]", r"[\1, \2, \3]", text)
    (RESULTS / "real_adapters.json").write_text(text + "\n")
    text = markdown(result)
    (RESULTS / "real_adapters.md").write_text(text)
    PAGE.write_text(embed(PAGE.read_text("utf-8"), result))
    print(text)


if __name__ == "__main__":
    main()
