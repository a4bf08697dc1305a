"""`metro-fast pretrain`: METRO, or span corruption as the baseline, on a prepared corpus."""

import typer

from metro_fast.cli.from_dataclass import command_from_dataclass
from metro_fast.metro import PretrainConfig, pretrain


def _run(config: PretrainConfig) -> None:
    typer.echo(f"wrote {pretrain(config)}")


app = typer.Typer(add_completion=False)
app.command()(command_from_dataclass(PretrainConfig, _run))
