"""The compression of one source by `metro-fast expert compress`, with its warnings."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.progress import Progress

from metro_fast._atomic import checked_path
from metro_fast.cli.console import plain_console
from metro_fast.cli.expert_compress_options import CompressOptions
from metro_fast.cli.expert_compress_sources import refuse_existing, replace_expert
from metro_fast.cli.expert_fidelity import length_warning
from metro_fast.cli.messages import RUNNING, say_warning, translated
from metro_fast.errors import MetroFastError
from metro_fast.experts import Expert, ModuleFidelity, compress, fidelity
from metro_fast.experts.compression.compress import read_vector
from metro_fast.experts.compression.source import read_initial
from metro_fast.experts.compression.streamed import stream_checkpoint
from metro_fast.experts.plain.plain import save_plain_beside


@dataclass
class Made:
    """The result of one source.

    Attributes:
        source: The source.
        target: The folder that was written.
        kind: lora, ia3, prompt, full or other.
        nbytes: Size of the weights file.
        expert: The expert; None if the source was pruned.
        modules: How well the update of each module is kept.
        exact: Whether that was computed from the weights, and not estimated.
        entries: For a pruned source, the entries that were kept, and all.
        warnings: The warnings about it, in order.
    """

    source: Path
    target: Path
    kind: str = ""
    nbytes: int = 0
    expert: Expert | None = None
    modules: Sequence[ModuleFidelity] = ()
    exact: bool = True
    entries: tuple[int, int] = (0, 0)
    warnings: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Made({self.source} -> {self.target}, {self.nbytes:,} bytes)"


def compress_one(options: CompressOptions) -> Made:
    """Compress a source and write what comes of it.

    Args:
        options: The options of the command, with this source and its folder.

    Raises:
        MetroFastError: If the folder has an adapter already, or the source is refused.
        OSError: If a file cannot be read or written.
    """
    checked_path(options.target)
    refuse_existing(options.target, options.source, replace=options.replace)
    made = Made(options.source, options.target)
    with _collected(made.warnings):
        if options.quantize == "prune":
            _prune(options, made)
        elif options.base is None:
            _compress(options, made)
        else:
            _stream(options, made)
    if made.expert is not None:
        made.kind, made.nbytes = made.expert.manifest.kind, made.expert.nbytes
        fixed = made.expert.manifest.alpha_rule == "fixed"
        made.warnings += filter(None, [length_warning(made.modules, fixed=fixed)])
    return made


@contextmanager
def _collected(texts: list[str]) -> Iterator[None]:
    """Keep warnings for later, when it is clear which source they are about."""
    with warnings.catch_warnings(record=True) as found:
        try:
            yield
        except (MetroFastError, OSError, TypeError):
            for each in found:  # they may be the reason
                say_warning(str(each.message))
            raise
    texts += [translated(str(each.message), RUNNING.get()) for each in found]


def _compress(options: CompressOptions, made: Made) -> None:
    """Save a compressed adapter; the source is read once, for it and for its exact fidelity."""
    assert options.quantize != "prune"
    initial = read_initial(options.initial)
    vector = read_vector(options.source, options.kind, initial, options.dense)
    expert = compress(
        vector,
        quantize=options.quantize,
        density=options.density,
        alpha=options.alpha,
        scope=options.scope,
        upstream=options.upstream,
        profile=options.profile,
        num_threads=options.threads,
    )
    made.modules = fidelity(vector, expert, initial=initial)  # refuses factors without a product
    if options.replace:
        replace_expert(expert, options.target, options.more)
    else:
        expert.save_beside(options.target, partial(_unless_there, options))
    made.expert = expert


def _prune(options: CompressOptions, made: Made) -> None:
    """Save a pruned adapter as a plain PEFT folder, or as a file if it has no configuration."""
    initial = read_initial(options.initial)
    vector = compress(
        read_vector(options.source, options.kind, initial, options.dense),
        quantize="prune",
        density=options.density,
        scope=options.scope,
        upstream=options.upstream,
        num_threads=options.threads,
    )
    if options.several and vector.config is None:  # a PEFT folder needs a configuration
        made.target = options.target.with_name(f"{options.target.name}.safetensors")
    save_plain_beside(vector, made.target, initial, options.more)
    residuals = vector.residuals.values()
    made.kind = vector.kind
    written = [made.target] if made.target.is_file() else made.target.glob("*.safetensors")
    made.nbytes = sum(path.stat().st_size for path in written)
    made.entries = (
        sum(int((residual.values != 0).sum()) for residual in residuals),
        sum(residual.values.size for residual in residuals),
    )


def _stream(options: CompressOptions, made: Made) -> None:
    """Save what finetuning changed in a checkpoint, tensor by tensor; fidelity is estimated."""
    assert options.base is not None
    console = plain_console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("compress", total=None)
        made.expert = stream_checkpoint(
            options.source,
            options.base,
            density=options.density,
            alpha=options.alpha,
            scope=options.scope,
            quantize=options.quantize,
            dense=options.dense,
            num_threads=options.threads,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    made.expert.save_beside(options.target, options.more)
    made.modules, made.exact = made.expert.estimated_fidelity, False


def _unless_there(options: CompressOptions, temporary: Path) -> None:
    """Refuse an expert that another process has put into the folder meanwhile; else add to ours."""
    refuse_existing(options.target, options.source, replace=False)
    options.more(temporary)
