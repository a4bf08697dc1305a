"""`make gpu`: check and time the CUDA kernels on a machine with a GPU.

Needs torch for CUDA, transformers and peft there, and a wheel of this package; no Rust, no network.

    python benches/gpu/run.py [--wheel dist/metro_fast-....whl] [--results benches/results]
"""

import argparse
import datetime
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENOUGH = 330
"""Seconds after which no part is started, so that a run ends within eight minutes."""


def installed_from(wheel: Path, arguments: list[str]) -> int:
    """Run this script again with the wheel's package before those of this Python."""
    with tempfile.TemporaryDirectory() as folder:
        install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", folder]
        subprocess.run([sys.executable, *install, str(wheel)], check=True)
        path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, str(HERE / "run.py"), *arguments]
        environment = os.environ | {"PYTHONPATH": path}
        return subprocess.run(command, env=environment, check=False).returncode


def sanitized() -> str:
    """A short run under compute-sanitizer, if it is installed."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return "compute-sanitizer: not here"
    command = [tool, "--error-exitcode", "9", sys.executable, str(HERE / "run.py"), "--short"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    if done.returncode != 0:
        sys.exit(f"compute-sanitizer found errors:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
    return "compute-sanitizer: no errors"


def main() -> None:
    """Check, time, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wheel", type=Path, help="wheel to install first")
    parser.add_argument("--results", type=Path, default=ROOT / "benches" / "results")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--short", action="store_true", help="a few checks alone")
    options = parser.parse_args()
    if options.wheel is not None:
        rest = ["--results", str(options.results.resolve()), "--seed", str(options.seed)]
        sys.exit(installed_from(options.wheel.resolve(), rest))
    try:
        import torch
    except ModuleNotFoundError:
        sys.exit("gpu: torch is not installed")
    if not torch.cuda.is_available():
        sys.exit("gpu: torch sees no CUDA device here: nothing was run")
    import checks
    import metro_step
    import report
    import timings
    from ceilings import copy_bandwidth, product_rate

    from metro_fast.ops.cuda import launch

    begin = time.monotonic()
    device = torch.device("cuda", torch.cuda.current_device())
    device_name = torch.cuda.get_device_name(device)
    if options.short:
        checks.damage(device, options.seed, trials=20)
        checks.labels(device, options.seed)
        return
    for line in launch.status():
        print(*line, sep=": ")
    for name, check in checks.CHECKS.items():
        print(f"checked {name}: {check(device, options.seed):,} (seed {options.seed})", flush=True)
    print(sanitized(), flush=True)
    bandwidth, rate = copy_bandwidth(device), product_rate(device)
    print(f"copy {bandwidth / 1e12:.2f} TB/s, product {rate / 1e12:.0f} TFLOP/s", flush=True)
    results, skipped = [], []
    parts = {"METRO step": partial(metro_step.split, device, metro_step.FULL)}
    for name, timing in timings.TIMINGS.items():
        parts[name] = partial(timing, device, timings.FULL, bandwidth)
    for name, part in parts.items():
        if time.monotonic() - begin > ENOUGH:
            skipped.append(name)
            continue
        results += part()
        print(f"timed {name}, {time.monotonic() - begin:.0f} s so far", flush=True)
    about = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": options.seed,
        "copy_bytes_per_s": round(bandwidth),
        "product_flop_per_s": round(rate),
        "versions": {
            p: metadata.version(p) for p in ("metro_fast", "torch", "transformers", "peft")
        },
        "skipped": skipped,
        "seconds": round(time.monotonic() - begin),
    }
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    options.results.mkdir(parents=True, exist_ok=True)
    path = report.write(options.results, device_name, date, results, about)
    print(report.table(results))
    print(f"wrote {path}" + (f"; no time for {', '.join(skipped)}" if skipped else ""))


if __name__ == "__main__":
    main()
