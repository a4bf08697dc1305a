"""`metro-fast expert`: compressed PEFT experts, from making them to serving them."""

from typing import ClassVar

import typer

from metro_fast.cli.app import LazyGroup


class ExpertGroup(LazyGroup):
    """`metro-fast expert`."""

    table: ClassVar[dict[str, tuple[str, str]]] = {
        "compress": ("metro_fast.cli.expert_compress", "Compress a PEFT folder into an expert."),
        "decompress": (
            "metro_fast.cli.expert_decompress",
            "Turn an expert into a PEFT folder.",
        ),
        "merge": ("metro_fast.cli.expert_merge", "Merge several experts into one adapter."),
        "compose": (
            "metro_fast.cli.expert_compose",
            "Combine experts for a new task (LoraHub).",
        ),
        "tune": ("metro_fast.cli.expert_tune", "Choose density and alpha by validation scores."),
        "export": ("metro_fast.cli.expert_export", "Write plain folders for vLLM, SGLang, LoRAX."),
        "push": ("metro_fast.cli.expert_push", "Upload an expert to the Hugging Face Hub."),
        "card": ("metro_fast.cli.expert_card", "Write a model card with the expert's figures."),
        "similarity": ("metro_fast.cli.expert_similarity", "Compare experts with each other."),
        "inspect": (
            "metro_fast.cli.expert_inspect",
            "Check the file; show its tensors and sizes.",
        ),
    }


app = typer.Typer(cls=ExpertGroup, add_completion=False)


@app.callback()
def _expert() -> None:
    """Compress, tune, inspect, merge, compose, compare and export PEFT experts."""
