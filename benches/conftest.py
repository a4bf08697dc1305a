"""Keeps of a benchmark run what a claim needs: machine, path, versions, medians."""

from importlib import metadata
from typing import Any

PACKAGES = ("metro_fast", "numpy", "torch", "transformers", "peft")
PATH = "scalar"  # the only one of this version


def pytest_benchmark_update_json(config: Any, benchmarks: Any, output_json: dict[str, Any]) -> None:
    cpu = output_json["machine_info"]["cpu"]
    kept = {
        "date": output_json["datetime"],
        "commit": output_json["commit_info"]["id"],
        "machine": f"{cpu.get('brand_raw', cpu['arch_string_raw'])}, {cpu['count']} cores",
        "path": PATH,
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
