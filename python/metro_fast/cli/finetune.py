"""`metro-fast finetune`: prompted finetuning of a seq2seq model, full or LoRA."""

import typer

from metro_fast.cli.from_dataclass import command_from_dataclass
from metro_fast.cli.unused import refuse_unused
from metro_fast.tuning import FinetuneConfig, finetune


def _run(config: FinetuneConfig) -> None:
    typer.echo(f"wrote {finetune(config)}")


def _check(ctx: typer.Context, config: FinetuneConfig) -> None:
    if config.method != "lora":
        lora = ("rank", "alpha", "lora_dropout", "lora_init_std", "target_modules")
        refuse_unused(ctx, *lora, without="--method lora")
    if not config.evaluation_tasks:
        refuse_unused(ctx, "evaluation_steps", without="--evaluation-tasks")


app = typer.Typer(add_completion=False)
app.command()(command_from_dataclass(FinetuneConfig, _run, _check))
