"""`metro-fast expert`: compress, decompress, inspect, merge and compare PEFT experts."""

from typing import ClassVar

import typer

from metro_fast.cli.app import LazyGroup


class ExpertGroup(LazyGroup):
    """`metro-fast expert`."""

    table: ClassVar[dict[str, tuple[str, str]]] = {
        "compress": ("metro_fast.cli.expert_compress", "PEFT folder to compressed expert."),
        "decompress": ("metro_fast.cli.expert_decompress", "Compressed expert to PEFT folder."),
        "merge": ("metro_fast.cli.expert_merge", "Several experts to one adapter."),
        "export": ("metro_fast.cli.expert_export", "Plain folders for vLLM, SGLang, LoRAX."),
        "similarity": ("metro_fast.cli.expert_similarity", "Which experts are alike."),
        "inspect": ("metro_fast.cli.expert_inspect", "Tensors, densities, bits, ratio, checks."),
    }


app = typer.Typer(cls=ExpertGroup, no_args_is_help=True, add_completion=False)


@app.callback()
def _expert() -> None:
    """Compress, decompress, inspect, merge and compare PEFT experts."""
