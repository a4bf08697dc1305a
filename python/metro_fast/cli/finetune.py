"""`metro-fast finetune`: prompted finetuning of a seq2seq model, full or LoRA."""

import typer

from metro_fast.cli.from_dataclass import command_from_dataclass
from metro_fast.tuning import FinetuneConfig, finetune


def _run(config: FinetuneConfig) -> None:
    typer.echo(f"wrote {finetune(config)}")


app = typer.Typer(add_completion=False)
app.command()(command_from_dataclass(FinetuneConfig, _run))
