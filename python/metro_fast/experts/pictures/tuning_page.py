"""A grid of densities and alphas as a page: size against score."""

import math
from collections.abc import Callable
from html import escape
from itertools import pairwise

from metro_fast._svg import limits, round_step, svg
from metro_fast.experts.pictures.heat_map import heat_map
from metro_fast.experts.pictures.page import Section, figure, page, table
from metro_fast.experts.search.tuning_table import Candidate, Tuning

_HEIGHT = 320


def tuning_page(tuning: Tuning, title: str = "Density and alpha") -> str:
    """Bytes against score of every candidate, and the grid as a heat map; one offline HTML page.

    Args:
        tuning: What `tune_compression` returned.
        title: Heading of the page.

    Returns:
        HTML.

    Example:
        >>> import numpy as np
        >>> from metro_fast.experts import tune_compression
        >>> weights = {"w": np.random.default_rng(0).standard_normal(4096).astype(np.float32)}
        >>> found = tune_compression(
        ...     weights, lambda expert: expert, lambda expert: 0.5, kind="other", alphas=(2,)
        ... )
        >>> "Chosen: density 5 %, alpha 2" in tuning_page(found)
        True
    """
    best, word = tuning.best, "higher" if tuning.higher_is_better else "lower"
    lead = [
        f"Chosen: {_setting(best)}, {best.nbytes:,} bytes, score {best.score:.6g} ({word} is "
        f"better; {tuning.rule}).",
        _reference(tuning),
        "The scores are those that the choice was made from: report its score on other data.",
    ]
    sections = [
        Section("Size and score", _scatter(tuning)),
        Section("The grid", _grid(tuning)),
        Section("Not beaten by a smaller one", _front(tuning)),
    ]
    return page(title, lead, sections)


def _reference(tuning: Tuning) -> str:
    ratio = f"{tuning.original_nbytes / tuning.best.nbytes:.1f} times the chosen file"
    size = f"{tuning.original_nbytes:,} bytes, {ratio}"
    if tuning.original_score is None:
        return f"The uncompressed adapter has {size}; it was not scored."
    return f"The uncompressed adapter has {size}, and scores {tuning.original_score:.6g}."


def _setting(row: Candidate) -> str:
    alpha = "" if row.alpha is None else f", alpha {_alpha(row)}"
    return f"density {100 * row.density:.3g} %{alpha}"


def _alpha(row: Candidate) -> str:
    if row.alpha is None:
        return "none"
    return row.alpha.replace("_", " ") if isinstance(row.alpha, str) else f"{row.alpha:g}"


def _told(row: Candidate) -> str:
    erased = f", {len(row.erased)} modules erased" if row.erased else ""
    return f"{_setting(row)}: {row.nbytes:,} bytes, score {row.score:.6g}{erased}"


def _scatter(tuning: Tuning) -> str:
    """Log bytes along x, score along y, a line a density, the original as a diamond."""
    original = tuning.original_score
    ys = [row.score for row in tuning.rows] + ([] if original is None else [original])
    (y0, y1), xs = limits(ys), [row.nbytes for row in tuning.rows]
    room = 0.06 * (y1 - y0)
    y0, y1 = y0 - room, y1 + room
    if original is not None:
        xs.append(tuning.original_nbytes)
    x0, x1 = math.log(min(xs) / 1.15), math.log(max(xs) * 1.15)
    plot = _HEIGHT - 26

    def x(nbytes: int) -> float:
        return 100 * (math.log(nbytes) - x0) / (x1 - x0)

    def y(score: float) -> float:
        return plot * (1 - (score - y0) / (y1 - y0))

    parts, labels = _axes(x0, x1, y0, y1, x, y)
    if original is not None:
        level = y(original)
        parts.append(f'<line class="level" x1="0" x2="100%" y1="{level:.1f}" y2="{level:.1f}"/>')
    densities = list(dict.fromkeys(row.density for row in tuning.rows))
    for number, density in enumerate(densities):
        rows = [row for row in tuning.rows if row.density == density]
        for one, two in pairwise(rows):
            parts.append(
                f'<line class="line c{number % 6}" x1="{x(one.nbytes):.2f}%" '
                f'x2="{x(two.nbytes):.2f}%" y1="{y(one.score):.1f}" y2="{y(two.score):.1f}"/>'
            )
        for row in rows:
            parts.append(
                f'<circle class="c{number % 6}" cx="{x(row.nbytes):.2f}%" '
                f'cy="{y(row.score):.1f}" r="4.5"><title>{escape(_told(row))}</title></circle>'
            )
    tops = [_best_of(tuning, density) for density in densities]
    for one, two in pairwise(sorted(tops, key=lambda row: row.nbytes)):
        parts.append(
            f'<line class="front" x1="{x(one.nbytes):.2f}%" x2="{x(two.nbytes):.2f}%" '
            f'y1="{y(one.score):.1f}" y2="{y(two.score):.1f}"/>'
        )
    for top in tops:
        ring = f'cx="{x(top.nbytes):.2f}%" cy="{y(top.score):.1f}" r="8.5"'
        parts.append(f'<circle class="best" {ring}/>' if top is tuning.best else "")
        parts.append(
            f'<text class="tick" x="{x(top.nbytes):.2f}%" dx="11" y="{y(top.score) + 16:.1f}">'
            f"{escape(_alpha(top))}</text>"
        )
    if original is not None:
        told = f"uncompressed: {tuning.original_nbytes:,} bytes, score {original:.6g}"
        parts.append(
            f'<svg x="{x(tuning.original_nbytes):.2f}%" y="{y(original):.1f}" overflow="visible">'
            f'<path class="original" d="M0 -7 L6 0 L0 7 L-6 0 Z"><title>{escape(told)}</title>'
            "</path></svg>"
        )
    keys = "".join(
        f'<span><i class="key k{number % 6}"></i>density {100 * density:.3g} %</span>'
        for number, density in enumerate(densities)
    )
    told = "; ".join(map(_told, tuning.rows))
    caption = (
        "Bytes of the file (log scale) against score. A line joins the alphas of a density in the "
        "order they were tried; the dashes join the best of each density, whose alpha stands "
        "beside it. The diamond and the level line are the uncompressed adapter, the ring is the "
        "choice."
    )
    picture = figure(svg(parts, _HEIGHT, f"Size and score. {told}"), caption, labels)
    return f'<p class="legend">{keys}</p>{picture}'


def _best_of(tuning: Tuning, density: float) -> Candidate:
    best, *rest = (row for row in tuning.rows if row.density == density)
    for row in rest:
        if row.better(best, higher_is_better=tuning.higher_is_better):
            best = row
    return best


def _axes(
    x0: float,
    x1: float,
    y0: float,
    y1: float,
    x: Callable[[int], float],
    y: Callable[[float], float],
) -> tuple[list[str], list[str]]:
    """Grid lines with numbers, and the numbers on the left."""
    parts, labels = [], []
    step = round_step(y1 - y0)
    for i in range(math.ceil(y0 / step), math.floor(y1 / step) + 1):
        labels.append(f"{step * i:.6g}")
        parts.append(
            f'<line class="grid" x1="0" x2="100%" y1="{y(step * i):.1f}" y2="{y(step * i):.1f}"/>'
            f'<text class="tick" x="0" dx="-8" y="{y(step * i) + 4:.1f}" text-anchor="end">'
            f"{labels[-1]}</text>"
        )
    for power in range(math.floor(x0 / math.log(10)), math.ceil(x1 / math.log(10)) + 1):
        for factor in (1, 2, 5):
            if not x0 <= math.log(factor * 10.0**power) <= x1:
                continue
            nbytes = factor * 10**power
            place = x(nbytes)
            parts.append(
                f'<line class="grid" x1="{place:.2f}%" x2="{place:.2f}%" y1="0" '
                f'y2="{_HEIGHT - 26}"/><text class="tick" x="{place:.2f}%" y="{_HEIGHT - 8}" '
                f'text-anchor="middle">{size(nbytes)}</text>'
            )
    return parts, labels


def size(nbytes: int) -> str:
    """Bytes in a few characters.

    Example:
        >>> size(999), size(50_000), size(2_500_000)
        ('999 B', '50 kB', '2.5 MB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if nbytes >= unit:
            return f"{nbytes / unit:.3g} {name}"
    return f"{nbytes} B"


def _grid(tuning: Tuning) -> str:
    densities = list(dict.fromkeys(row.density for row in tuning.rows))
    alphas = list(dict.fromkeys(_alpha(row) for row in tuning.rows))
    scores = {(row.density, _alpha(row)): row.score for row in tuning.rows}
    names = [f"density {100 * density:.3g} %" for density in densities]
    columns = [f"alpha {alpha}" for alpha in alphas]
    values = [[scores.get((d, a)) for a in alphas] for d in densities]
    low, high = min(scores.values()), max(scores.values())
    reach = (low, high) if tuning.higher_is_better else (high, low)
    # Colors go from the worst to the best: of losses, from the highest down.
    picture = heat_map(
        names,
        columns,
        values,
        description=f"Scores by density and alpha: {'; '.join(map(_told, tuning.rows))}",
        form=lambda value: f"{value:.6g}",
        short=lambda value: f"{value:.3g}",
        reach=reach,
    )
    return figure(picture, "Score by density and alpha, the better the darker.", names)


def _front(tuning: Tuning) -> str:
    rows = [
        [
            _setting(row),
            f"{row.nbytes:,}",
            f"{row.bits_per_parameter:.3f}",
            f"{row.score:.6g}",
            str(len(row.erased)),
        ]
        for row in tuning.pareto
    ]
    head = ["candidate", "bytes", "bits a parameter", "score", "modules erased"]
    return table(head, rows)
