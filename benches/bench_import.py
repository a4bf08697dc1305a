"""The cost of an import beyond numpy's, and of the help of the command line beyond that.

The peer is `import numpy` in the same kind of fresh interpreter, in the same run; the difference of
the medians is what is ours (targets: 30 ms for the import, 150 ms for the help beyond it).
"""

import subprocess
import sys

import pytest

HELP = (
    "import sys; sys.argv = ['metro-fast', '--help']\n"
    "from metro_fast.cli import main\n"
    "try: main()\n"
    "except SystemExit: pass"
)
CODES = {
    "numpy": "import numpy",
    "metro_fast": "import metro_fast",
    "ops": "import metro_fast.ops",
    "cli_help": HELP,
}


@pytest.mark.benchmark(group="a fresh interpreter")
@pytest.mark.parametrize("name", CODES)
def test_import(benchmark, name: str) -> None:
    command = [sys.executable, "-c", CODES[name]]
    benchmark.pedantic(
        lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL),
        rounds=20,
        warmup_rounds=2,
    )
