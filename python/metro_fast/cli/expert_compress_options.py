"""The options of `metro-fast expert compress` with their help, and which exclude each other."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from metro_fast.errors import MetroFastError
from metro_fast.experts.compression.rules import Profile, Quantizer, Scope
from metro_fast.experts.compression.task_vector import Kind

Source: TypeAlias = Annotated[
    list[Path],
    typer.Argument(
        help="PEFT folders, or state dicts: .safetensors, .bin, .pt, .pth, .npy, or folders of "
        "models; patterns such as 'adapters/*' too."
    ),
]
Target: TypeAlias = Annotated[
    Path,
    typer.Argument(
        help="Folder to write the compressed expert to; of several sources, a folder for each in "
        "it."
    ),
]
Density: TypeAlias = Annotated[
    float | None,
    typer.Option(help="Share of the entries to keep, in (0, 1]: 0.2 by default, 1 for sign."),
]
Alpha: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Scale in standard deviations, or least_squares, as by default; 1 is the paper's "
        "choice for bases of 13B and more."
    ),
]
ScopeOption: TypeAlias = Annotated[
    Scope, typer.Option(help="Tensors that share one threshold and one scale.")
]
QuantizeOption: TypeAlias = Annotated[
    Quantizer,
    typer.Option(
        help="Values of the kept entries: signs times alpha, signs times their mean magnitude, "
        "every sign, or (prune) their own, in a plain PEFT folder."
    ),
]
KindOption: TypeAlias = Annotated[
    Kind | None, typer.Option(help="Kind of the source, if its names do not say it.")
]
Initial: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="File or folder of values to subtract first, such as the base."),
]
Base: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Pretrained model to compare a fully finetuned one with, tensor by tensor: neither "
        "needs to fit into memory. Both are .safetensors files or folders of shards."
    ),
]
Dense: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="Name or pattern of tensors to keep whole; may be repeated."),
]
Upstream: TypeAlias = Annotated[
    bool, typer.Option(help="Keep what the published code keeps: k + 1 entries and all ties.")
]
ProfileOption: TypeAlias = Annotated[
    Profile, typer.Option(help="size: use the stream length that makes the smallest file.")
]
Threads: TypeAlias = Annotated[
    int | None, typer.Option(help="Threads to use: the machine's cores by default.")
]
Rows: TypeAlias = Annotated[
    int,
    typer.Option(help="Most modules to list; if there are more, those that lost most.", min=0),
]
Replace: TypeAlias = Annotated[
    bool, typer.Option("--replace", help="Replace experts that are in the folders already.")
]


@dataclass(frozen=True)
class CompressOptions:
    """The values of the options above.

    Attributes:
        source: What to compress.
        target: The folder to write to.
        density: Share of the entries to keep.
        alpha: Scale in standard deviations, or `"least_squares"`.
        scope: Tensors that share one threshold and one scale.
        quantize: Values of the kept entries.
        kind: Kind of the source.
        initial: Values to subtract first.
        base: Pretrained model of a checkpoint that is streamed.
        dense: Names or patterns of tensors to keep whole.
        upstream: Whether to keep what the published code keeps.
        profile: Whether to search for the smallest file.
        threads: Threads to use.
        replace: Whether to replace an expert in the folder.
        several: Whether this source is one of several, each with a name of its own.
        more: Writes what comes with the result into its folder, as one with it.
    """

    source: Path
    target: Path
    density: float | None
    alpha: float | Literal["least_squares"] | None
    scope: Scope
    quantize: Quantizer
    kind: Kind | None
    initial: Path | None
    base: Path | None
    dense: tuple[str, ...]
    upstream: bool
    profile: Profile
    threads: int | None
    replace: bool
    several: bool = False
    more: Callable[[Path], object] = lambda folder: None

    def __post_init__(self) -> None:
        """Refuse options that exclude each other.

        Raises:
            MetroFastError: Naming the options.
        """
        excluded = {
            "--initial": self.initial is not None,
            "--upstream": self.upstream,
            "--profile size": self.profile == "size",
            f"--kind {self.kind}": self.kind not in (None, "full"),
            "--quantize prune": self.quantize == "prune",
        }
        for option, given in excluded.items():
            if self.base is not None and given:
                raise MetroFastError(f"{option} does not go with --base: leave one of them out")
        if self.quantize == "prune" and self.replace:
            raise MetroFastError(
                "--quantize prune writes a plain adapter, and those are not replaced: leave "
                "--replace out, and choose another folder"
            )
        if self.quantize == "prune" and (self.alpha is not None or self.profile != "default"):
            option = "--alpha" if self.alpha is not None else "--profile"
            raise MetroFastError(
                f"{option} describes trits, and --quantize prune has none: leave one of them out"
            )
