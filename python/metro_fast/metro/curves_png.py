"""The panels of the curves as a PNG, drawn by matplotlib."""

import io
import math
from collections.abc import Sequence
from typing import Any

from metro_fast._extras import require
from metro_fast.metro.curves_panels import Panel, color, dashes, panels
from metro_fast.metro.curves_runs import Run

COLUMNS = 3
GRAY = "#5b636b"


def curves_png(runs: Sequence[Run]) -> bytes:
    """Draw runs together, in the panels, colors and limits of the page.

    Args:
        runs: The runs, at least one.

    Returns:
        The bytes of a PNG.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figures = require("matplotlib.figure", "plot")
    drawn = panels(runs)
    lines = math.ceil(len(drawn) / COLUMNS)
    # `Figure` without pyplot touches no display and no global state.
    picture = figures.Figure(figsize=(5 * COLUMNS, 3 * lines + 0.6), layout="constrained")
    axes = picture.subplots(lines, COLUMNS, squeeze=False).flatten()
    for panel, axis in zip(drawn, axes, strict=False):
        _draw(panel, axis, runs)
    for axis in axes[len(drawn) :]:
        axis.set_axis_off()
    handles = [axes[0].plot([], [], **_style(number))[0] for number in range(len(runs))]
    names = [run.name for run in runs]
    columns = min(len(runs), 5)
    picture.legend(handles, names, loc="outside upper left", ncols=columns, frameon=False)
    content = io.BytesIO()
    picture.savefig(content, format="png", dpi=120)
    return content.getvalue()


def _style(number: int) -> dict[str, Any]:
    pattern = [float(part) / 2 for part in dashes(number).split()]
    return {"color": color(number), "linestyle": (0, pattern) if pattern else "-", "linewidth": 1.5}


def _draw(panel: Panel, axis: Any, runs: Sequence[Run]) -> None:
    x0, x1, y0, y1 = panel.limits
    axis.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")
    for number in range(len(runs)):
        training, held_out = panel.curves[number]
        if training:
            axis.plot(*zip(*training, strict=True), **_style(number))
        if held_out:
            marks = {
                "marker": "o",
                "markersize": 5,
                "markerfacecolor": "white",
                "linestyle": "",
                "clip_on": False,
            }
            axis.plot(*zip(*held_out, strict=True), **{**_style(number), **marks})
    axis.set(xlim=(x0, x1), ylim=(y0, y1))
    axis.margins(0)
    axis.grid(axis="y", color="#dfe3e7")
    axis.set_axisbelow(True)
    axis.tick_params(colors=GRAY, labelsize=8)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.set_xlabel("step", color=GRAY, fontsize=8)
    if panel.in_nats:
        axis.set_ylabel("nats per token", color=GRAY, fontsize=8)
        bits = axis.secondary_yaxis(
            "right", functions=(lambda v: v / math.log(2), lambda v: v * math.log(2))
        )
        bits.set_ylabel("bits per token", color=GRAY, fontsize=8)
        bits.tick_params(colors=GRAY, labelsize=8)
        bits.spines["right"].set_visible(False)
