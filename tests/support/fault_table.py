"""Fault injection over commands: `python tests/support/fault_table.py [NAMES] [--stride N]`.

For each command every call that changes files fails once, meets a full disk, or is where the
process dies, also with the loss of power; then the same call continues. A table is printed; with
`--json` the rows are. A module of cases has a function `cases(folder)` that makes the inputs in a
folder and returns `Case`s.
"""

import argparse
import gc
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PRELOADED = (
    "torch transformers.models.t5.modeling_t5 transformers.models.auto peft accelerate "
    "datatrove.pipeline.tokens loguru nevergrad rich.progress typer._adapters dill "
    "metro_fast.cli.app metro_fast.data metro_fast.data.datatrove_steps metro_fast.experts "
    "metro_fast.experts.loading.load"
)
SHOWN = 8  # things that are wrong with a command


def table(module: str, *names: str, most: int | None = None) -> list[dict]:
    """Run this program in a process with faults.c, and return its rows."""
    options = ["--modules", module, "--json", *([] if most is None else ["--most", str(most)])]
    done = run_preloaded([*names, *options], capture=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def run_preloaded(arguments: list[str], *, capture: bool = False) -> subprocess.CompletedProcess:
    """Run this program with the library of faults loaded."""
    from faults import build

    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        variables = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
        # One thread each: a pool of threads would not survive a fork.
        variables |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, __file__, *arguments]
        return subprocess.run(
            command, env=variables, capture_output=capture, text=True, check=False
        )


def preload() -> None:
    """Import what commands import, also when they run."""
    import metro_fast.cli

    for name in PRELOADED.split():
        importlib.import_module(name)
    for module in pkgutil.iter_modules(metro_fast.cli.__path__, "metro_fast.cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="Names of cases; all by default.")
    parser.add_argument("--modules", nargs="+", default=["fault_cases"])
    parser.add_argument("--stride", type=int, default=1, help="Check every Nth fault.")
    parser.add_argument("--most", type=int, help="Check at most this many of each command.")
    parser.add_argument("--no-two", action="store_true", help="Leave out two calls at once.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if "faults.so" not in os.environ.get("LD_PRELOAD", ""):
        return run_preloaded(sys.argv[1:]).returncode
    preload()
    gc.collect()
    gc.freeze()  # so that a collection in a fork does not copy what is imported
    rows = _rows(options)
    if options.json:
        json.dump(rows, sys.stdout)
        return 0
    print()
    print_table(rows)
    return int(any(row["wrong"] for row in rows))


def _rows(options: argparse.Namespace) -> list[dict]:
    from fault_checks import Check

    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary).resolve()
        for module in options.modules:
            inputs = root / module
            inputs.mkdir()
            for case in importlib.import_module(module).cases(inputs):
                if options.names and case.name not in options.names:
                    continue
                began = time.monotonic()
                check = Check(case, root / "case")
                found = [check.all(options.stride, options.most)]
                if case.other is not None and not options.no_two:
                    found.append(check.two(options.stride, options.most))
                seconds = time.monotonic() - began
                rows += [vars(row) | {"seconds": seconds} for row in found]
                sys.stderr.write(f"{case.name}: {seconds:.0f} s\n")
    return rows


def print_table(rows: list[dict]) -> None:
    """Print the rows, and then what is wrong."""
    print(f"{'command':44} {'calls':>6} {'points':>7} {'resumed':>8} {'wrong':>6}  states")
    for row in rows:
        states = ", ".join(f"{name} {n}" for name, n in sorted(row["states"].items()))
        print(
            f"{row['name']:44} {row['calls']:6} {row['points']:7} {row['went_on']:8} "
            f"{len(row['wrong']):6}  {states}"
        )
    for row in rows:
        for text in row["wrong"][:SHOWN]:
            print(f"\n{row['name']}: {text}")


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # taking down what is imported would take a second
