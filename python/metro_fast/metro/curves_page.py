"""The page of the curves: one panel for each figure, and a table of the last values.

Positions are shares of the picture, so that it fits a phone and a printed page; every point is in
the file, and the circles of evaluations show their values when pointed at.
"""

import math
from collections.abc import Sequence
from html import escape

from metro_fast._page import Html, Section, document, table
from metro_fast._svg import room, svg
from metro_fast.metro.curves_panels import Panel, color, dashes, panels, ticks
from metro_fast.metro.curves_runs import Points, Run

HEIGHT, PLOT = 236, 208
STYLE = """
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1.6rem 1.4rem; }
.panels figure { margin: 0; min-width: 0; }
.panels h3 { margin: 0 0 .9rem; font-size: .95rem; }
svg .curve { fill: none; stroke-width: 1.8; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
svg .eval { fill: #fff; stroke-width: 1.8; }
.key-line { display: inline-block; width: 1.9em; height: .9em; vertical-align: -.1em; margin-right: .4em; }
td, th { font-variant-numeric: tabular-nums; }
"""  # noqa: E501


def curves_page(runs: Sequence[Run]) -> str:
    """Draw runs together on one offline page.

    Args:
        runs: The runs, at least one.

    Returns:
        HTML.
    """
    drawn = panels(runs)
    names = "run" if len(runs) == 1 else f"{len(runs)} runs"
    lead = [
        f"The curves of {names}. Lines are training, each point the mean since the point before; "
        "circles are evaluations on held-out rows. Losses are in nats per token on the left and in "
        "bits on the right. The total loss depends on the weights of its parts: compare it between "
        "runs of the same weights alone."
    ]
    if any(run.left_out for run in runs):
        listed = ", ".join(f"{run.name} {run.left_out}" for run in runs if run.left_out)
        lead.append(f"Values that are not finite are not drawn: {listed}.")
    body = f'<div class="panels">\n{"".join(_figure(panel, runs) for panel in drawn)}</div>\n'
    sections = [
        Section("Curves", _legend(runs) + body),
        Section("Last values", _table(drawn, runs)),
    ]
    return document("Training curves", lead, sections, style=STYLE)


def _legend(runs: Sequence[Run]) -> str:
    keys = "".join(
        f'<span><svg class="key-line" viewBox="0 0 30 12" aria-hidden="true"><line x1="0" x2="30" '
        f'y1="6" y2="6" stroke="{color(n)}" stroke-width="2.5" stroke-dasharray="{dashes(n)}"/>'
        f'<circle cx="15" cy="6" r="4" fill="#fff" stroke="{color(n)}" stroke-width="2"/></svg>'
        f"{escape(run.name)}</span>"
        for n, run in enumerate(runs)
    )
    return f'<p class="legend">{keys}</p>\n'


def _figure(panel: Panel, runs: Sequence[Run]) -> Html:
    heading = f"<h3>{escape(panel.title)}</h3>"
    return Html(f"<figure>\n{heading}\n{_chart(panel, runs)}\n</figure>\n")


def _chart(panel: Panel, runs: Sequence[Run]) -> str:
    x0, x1, y0, y1 = panel.limits

    def x(step: float) -> float:
        return 100 * (step - x0) / (x1 - x0)

    def y(value: float) -> float:
        return PLOT * (1 - (value - y0) / (y1 - y0))

    left = {tick: f"{tick:,.6g}" for tick in ticks(y0, y1)}
    parts = [
        f'<line class="grid" x1="0" x2="100%" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text class="tick" x="0" dx="-8" y="{y(tick) + 4:.1f}" text-anchor="end">{label}</text>'
        for tick, label in left.items()
    ]
    right = {}
    if panel.in_nats:
        bits = math.log(2)
        for number, tick in enumerate(reversed(ticks(y0 / bits, y1 / bits))):
            right[tick * bits] = f"{tick:.6g}{' bits' if number == 0 else ''}"
    parts += [
        f'<text class="tick" x="100%" dx="8" y="{y(value) + 4:.1f}">{label}</text>'
        for value, label in right.items()
    ]
    for tick in ticks(x0, x1):
        place = x(tick)
        anchor = "start" if place < 1 else "end" if place > 99 else "middle"
        parts.append(
            f'<text class="tick" x="{place:.2f}%" y="{HEIGHT - 8}" text-anchor="{anchor}">'
            f"{'step ' if tick == x0 else ''}{tick:,.6g}</text>"
        )
    parts.append(
        f'<svg x="0" y="0" width="100%" height="{PLOT}" viewBox="0 0 1 1" '
        f'preserveAspectRatio="none" data-figure="{panel.name}" '
        f'data-limits="{x0:g} {x1:g} {y0:.9g} {y1:.9g}">'
    )
    for number, (run, (training, _)) in enumerate(zip(runs, panel.curves, strict=True)):
        parts.append(_curve(training, panel, number, run.name))
    parts.append("</svg>")
    for number, (run, (_, held_out)) in enumerate(zip(runs, panel.curves, strict=True)):
        for step, value in held_out:
            label = f"{run.name}, evaluation at step {step:,}: {value:.6g}"
            parts.append(
                f'<circle class="eval" data-run="{escape(run.name)}" cx="{x(step):.3f}%" '
                f'cy="{y(value):.2f}" r="3.6" stroke="{color(number)}">'
                f"<title>{escape(label)}</title></circle>"
            )
    description = _description(panel, runs)
    return svg(parts, HEIGHT, description, left=room(left.values()), right=room(right.values()))


def _curve(points: Points, panel: Panel, number: int, name: str) -> str:
    if not points:
        return ""
    x0, x1, y0, y1 = panel.limits
    if len(points) == 1:  # a line needs two
        points = points * 2
    places = " ".join(
        f"{(step - x0) / (x1 - x0):.6g},{1 - (value - y0) / (y1 - y0):.6g}"
        for step, value in points
    )
    return (
        f'<polyline class="curve" data-run="{escape(name)}" stroke="{color(number)}" '
        f'stroke-dasharray="{dashes(number)}" stroke-linecap="round" points="{places}">'
        f"<title>{escape(name)}</title></polyline>"
    )


def _description(panel: Panel, runs: Sequence[Run]) -> str:
    ends = []
    for run, (training, held_out) in zip(runs, panel.curves, strict=True):
        points = training or held_out
        if points:
            first, last = points[0], points[-1]
            ends.append(
                f"{run.name} from {first[1]:.4g} at step {first[0]:,} to {last[1]:.4g} at step "
                f"{last[0]:,}"
            )
    return f"{panel.title}: {'; '.join(ends)}"


def _table(drawn: Sequence[Panel], runs: Sequence[Run]) -> Html:
    """The last value of each figure, and that of the evaluations."""
    rows = []
    for panel in drawn:
        unit = ", nats (bits)" if panel.in_nats else ""
        for part, kind in ((0, "training"), (1, "evaluation")):
            cells = [_last(curves[part], in_nats=panel.in_nats) for curves in panel.curves]
            if any(cells):
                rows.append([f"{panel.name}, {kind}{unit}", *cells])
    steps = [max(step for part in run.training.values() for step, _ in part) for run in runs]
    rows.insert(0, ["step", *(f"{step:,}" for step in steps)])
    return table(
        ["", *(run.name for run in runs)], rows, label="Last values of each run", kind="named"
    )


def _last(points: Points, *, in_nats: bool) -> str:
    if not points:
        return ""
    value = points[-1][1]
    return f"{value:.4g} ({value / math.log(2):.4g})" if in_nats else f"{value:,.4g}"
