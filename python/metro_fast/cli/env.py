"""`metro-fast env`: versions and the abilities of this machine, for a bug report."""

import importlib.metadata
import os
import platform

import typer
from rich.table import Table

import metro_fast
from metro_fast import _core
from metro_fast.cli.console import plain_console
from metro_fast.ops.cuda import launch
from metro_fast.ops.draws import default_threads

PACKAGES = (
    "numpy", "torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers",
    "datatrove", "scipy", "jinja2",
)  # fmt: skip

app = typer.Typer(add_completion=False)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@app.command()
def env() -> None:
    """Show the versions and the abilities of this machine, for a bug report."""
    table = Table(show_header=False, box=None)
    table.add_row("metro_fast", metro_fast.__version__)
    table.add_row("native module", str(_core.__file__))
    table.add_row("python", f"{platform.python_version()} on {platform.platform()}")
    table.add_row("cores", f"{os.cpu_count()} (threads by default: {default_threads()})")
    table.add_row("kernels", f"{_core.simd_level()} on the CPU")
    for name, state in launch.status():
        table.add_row(name, state)
    for package in PACKAGES:
        table.add_row(package, _version(package))
    plain_console().print(table)
