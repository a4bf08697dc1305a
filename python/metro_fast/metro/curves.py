"""The curves of runs, drawn together: `metrics.jsonl` becomes a page and a PNG."""

from collections.abc import Sequence
from pathlib import Path

from metro_fast._atomic import write_atomically
from metro_fast.metro.curves_page import curves_page
from metro_fast.metro.curves_png import curves_png
from metro_fast.metro.curves_runs import read_runs


def draw_curves(
    runs: Sequence[str | Path], output: str | Path, *, png: str | Path | None = None
) -> Path:
    r"""Draw the curves of any runs together, on one page that loads nothing from a network.

    Each figure has a panel: the losses in nats and bits per token, accuracies, detection, the share
    of replaced tokens, and the learning rate. Lines are training, circles are evaluations.

    Args:
        runs: Folders that `pretrain` or `finetune` has written `metrics.jsonl` to, also while they
            run; or checkpoints of any Trainer, which hold `trainer_state.json`.
        output: The HTML page.
        png: The same panels as a PNG, which needs matplotlib.

    Returns:
        The page.

    Raises:
        MetroFastError: If no run is given, one is given twice, or one has logged nothing yet.
        FormatError: If a line of a history is damaged.
        MissingExtraError: If a PNG is wanted and matplotlib is not installed.
        OSError: If a folder has no history, or the page cannot be written.

    Example:
        >>> Path("run").mkdir(exist_ok=True)
        >>> import json
        >>> lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}]
        >>> _ = Path("run/metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        >>> draw_curves(["run"], "curves.html")
        PosixPath('curves.html')
    """
    found = read_runs(runs)
    if png is not None:
        write_atomically(png, curves_png(found))
    return write_atomically(output, curves_page(found))
