"""Keeps of a benchmark run what a claim needs: machine, path, versions, medians."""

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from metro_fast import MetroFastError, _core

PACKAGES = ("metro_fast", "numpy", "torch", "transformers", "peft", "numba")
# The benches share two files that are no benches.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def simd(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Forces an instruction set; skips where the machine has none of that name."""

    def force(level: str) -> None:
        monkeypatch.setenv("METRO_FAST_SIMD", level)
        try:
            _core.simd_level()
        except MetroFastError as error:
            pytest.skip(str(error))

    return force


def pytest_benchmark_update_json(config: Any, benchmarks: Any, output_json: dict[str, Any]) -> None:
    cpu = output_json["machine_info"]["cpu"]
    kept = {
        "date": output_json["datetime"],
        "commit": output_json["commit_info"]["id"],
        "machine": f"{cpu.get('brand_raw', cpu['arch_string_raw'])}, {cpu['count']} cores",
        "path": _core.simd_level(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "benchmarks": [
            {
                "name": benchmark["fullname"].removeprefix("benches/"),
                "group": benchmark["group"],
                "median_us": round(1e6 * benchmark["stats"]["median"], 2),
                "min_us": round(1e6 * benchmark["stats"]["min"], 2),
                "rounds": benchmark["stats"]["rounds"],
                **({"extra_info": benchmark["extra_info"]} if benchmark["extra_info"] else {}),
            }
            for benchmark in output_json["benchmarks"]
        ],
    }
    output_json.clear()
    output_json.update(kept)
