"""A benchmark run's file holds what a claim needs: machine, instruction set, versions, medians."""

from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import pytest

from metro_fast import MetroFastError, _core

PACKAGES = ("metro_fast", "numpy", "torch", "transformers", "peft", "numba")


@pytest.fixture
def simd(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that forces an instruction set, and skips where the machine lacks it."""

    def force(level: str) -> None:
        monkeypatch.setenv("METRO_FAST_SIMD", level)
        try:
            _core.simd_level()
        except MetroFastError as error:
            pytest.skip(str(error))

    return force


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Peers on torch get as many threads as we do: one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
