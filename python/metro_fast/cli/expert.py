"""`metro-fast expert`: compressed PEFT experts, from making them to serving them."""

from typing import ClassVar

import typer

from metro_fast.cli.app import LazyGroup


class ExpertGroup(LazyGroup):
    """`metro-fast expert`."""

    table: ClassVar[dict[str, tuple[str, str]]] = {
        "compress": ("metro_fast.cli.expert_compress", "PEFT folder to compressed expert."),
        "decompress": ("metro_fast.cli.expert_decompress", "Compressed expert to PEFT folder."),
        "merge": ("metro_fast.cli.expert_merge", "Several experts to one adapter."),
        "compose": ("metro_fast.cli.expert_compose", "Experts to one for a new task (LoraHub)."),
        "tune": ("metro_fast.cli.expert_tune", "Density and alpha by validation scores."),
        "export": ("metro_fast.cli.expert_export", "Plain folders for vLLM, SGLang, LoRAX."),
        "push": ("metro_fast.cli.expert_push", "Compressed expert to the Hugging Face Hub."),
        "card": ("metro_fast.cli.expert_card", "Model card with the expert's own figures."),
        "similarity": ("metro_fast.cli.expert_similarity", "Which experts are alike."),
        "inspect": ("metro_fast.cli.expert_inspect", "Tensors, densities, bits, ratio, checks."),
    }


app = typer.Typer(cls=ExpertGroup, no_args_is_help=True, add_completion=False)


@app.callback()
def _expert() -> None:
    """Compress, tune, inspect, merge, compose, compare and export PEFT experts."""
