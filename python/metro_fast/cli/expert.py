"""`metro-fast expert`: compress, decompress and inspect PEFT experts."""

from typing import ClassVar

import typer

from metro_fast.cli.app import LazyGroup


class ExpertGroup(LazyGroup):
    """`metro-fast expert`."""

    table: ClassVar[dict[str, tuple[str, str]]] = {
        "compress": ("metro_fast.cli.expert_compress", "PEFT folder to compressed expert."),
        "decompress": ("metro_fast.cli.expert_decompress", "Compressed expert to PEFT folder."),
        "inspect": ("metro_fast.cli.expert_inspect", "Tensors, densities, bits, ratio, checks."),
    }


app = typer.Typer(cls=ExpertGroup, no_args_is_help=True, add_completion=False)


@app.callback()
def _expert() -> None:
    """Compress, decompress, inspect PEFT experts."""
