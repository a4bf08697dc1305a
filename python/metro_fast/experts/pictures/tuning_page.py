"""The page of a grid of densities and alphas, with size against score."""

import math
from html import escape
from itertools import pairwise

from metro_fast._page import Section, figure, file_size, table
from metro_fast._svg import limits, room, round_step, svg
from metro_fast.experts.pictures.heat_map import heat_map
from metro_fast.experts.pictures.page import map_figure, page
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
        "The choice was made by these scores: report the score of the chosen candidate on other "
        "data.",
    ]
    sections = [
        Section("Size and score", _scatter(tuning)),
        Section("The grid", _grid(tuning)),
        Section("Candidates that no smaller one beats", _front(tuning)),
    ]
    return page(title, lead, sections)


def _reference(tuning: Tuning) -> str:
    ratio = f"{tuning.original_nbytes / tuning.best.nbytes:.1f} times the chosen file"
    size = f"{tuning.original_nbytes:,} bytes, {ratio}"
    if tuning.original_score is None:
        return f"The uncompressed adapter has {size}; it was not scored."
    return f"The uncompressed adapter has {size}; its score is {tuning.original_score:.6g}."


def _setting(row: Candidate) -> str:
    alpha = "" if row.alpha is None else f", alpha {_alpha(row)}"
    return f"density {100 * row.density:.3g} %{alpha}"


def _alpha(row: Candidate) -> str:
    if row.alpha is None:
        return "none"
    return row.alpha.replace("_", " ") if isinstance(row.alpha, str) else f"{row.alpha:g}"


def _label(row: Candidate) -> str:
    erased = f", {len(row.erased)} modules erased" if row.erased else ""
    return f"{_setting(row)}: {row.nbytes:,} bytes, score {row.score:.6g}{erased}"


def _scatter(tuning: Tuning) -> str:
    """Bytes (log scale) against score, one line per density, and the original as a diamond."""
    plot = _Plot(tuning)
    parts, labels = plot.axes()
    if tuning.original_score is not None:
        level = plot.y(tuning.original_score)
        parts.append(f'<line class="level" x1="0" x2="100%" y1="{level:.1f}" y2="{level:.1f}"/>')
    densities = list(dict.fromkeys(row.density for row in tuning.rows))
    for number, density in enumerate(densities):
        rows = [row for row in tuning.rows if row.density == density]
        parts += [plot.line(f"line c{number % 6}", *pair) for pair in pairwise(rows)]
        parts += [plot.dot(f"c{number % 6}", row) for row in rows]
    tops = [_best_of(tuning, density) for density in densities]
    front = sorted(tops, key=lambda row: row.nbytes)
    parts += [plot.line("front", *pair) for pair in pairwise(front)]
    for top in tops:
        parts.append(plot.ring(top) if top is tuning.best else "")
        parts.append(plot.alpha(top))
    if tuning.original_score is not None:
        parts.append(plot.diamond(tuning.original_nbytes, tuning.original_score))
    keys = "".join(
        f'<span><i class="key k{number % 6}"></i>density {100 * density:.3g} %</span>'
        for number, density in enumerate(densities)
    )
    caption = (
        "Bytes of the file (log scale) against score. Each line connects the alphas of one density "
        "in the order in which they were tried. The dashes connect the best candidates of all "
        "densities, each labeled with its alpha. The diamond and the level line are the "
        "uncompressed adapter; the ring is the chosen candidate."
    )
    description = f"Size and score. {'; '.join(map(_label, tuning.rows))}"
    chart = figure(svg(parts, _HEIGHT, description, left=room(labels)), caption)
    return f'<p class="legend">{keys}</p>{chart}'


class _Plot:
    """The scales of the scatter plot, and its marks.

    Args:
        tuning: The candidates, and the original, which all have a place in the plot.
    """

    def __init__(self, tuning: Tuning) -> None:
        scores, sizes = zip(*((row.score, row.nbytes) for row in tuning.rows), strict=True)
        if tuning.original_score is not None:
            scores, sizes = (*scores, tuning.original_score), (*sizes, tuning.original_nbytes)
        low, high = limits(scores)
        room = 0.06 * (high - low)
        self._scores = (low - room, high + room)
        self._sizes = (math.log(min(sizes) / 1.15), math.log(max(sizes) * 1.15))

    def x(self, nbytes: int) -> float:
        """The place of a size, in percent from the left."""
        low, high = self._sizes
        return 100 * (math.log(nbytes) - low) / (high - low)

    def y(self, score: float) -> float:
        """The place of a score, in pixels from the top."""
        low, high = self._scores
        return (_HEIGHT - 26) * (1 - (score - low) / (high - low))

    def line(self, kind: str, one: Candidate, two: Candidate) -> str:
        return (
            f'<line class="{kind}" x1="{self.x(one.nbytes):.2f}%" x2="{self.x(two.nbytes):.2f}%" '
            f'y1="{self.y(one.score):.1f}" y2="{self.y(two.score):.1f}"/>'
        )

    def dot(self, kind: str, row: Candidate) -> str:
        return (
            f'<circle class="{kind}" cx="{self.x(row.nbytes):.2f}%" cy="{self.y(row.score):.1f}" '
            f'r="4.5"><title>{escape(_label(row))}</title></circle>'
        )

    def ring(self, row: Candidate) -> str:
        place = f'cx="{self.x(row.nbytes):.2f}%" cy="{self.y(row.score):.1f}"'
        return f'<circle class="best" {place} r="8.5"/>'

    def alpha(self, row: Candidate) -> str:
        return (
            f'<text class="tick" x="{self.x(row.nbytes):.2f}%" dx="11" '
            f'y="{self.y(row.score) + 16:.1f}">{escape(_alpha(row))}</text>'
        )

    def diamond(self, nbytes: int, score: float) -> str:
        label = f"uncompressed: {nbytes:,} bytes, score {score:.6g}"
        return (
            f'<svg x="{self.x(nbytes):.2f}%" y="{self.y(score):.1f}" overflow="visible">'
            f'<path class="original" d="M0 -7 L6 0 L0 7 L-6 0 Z"><title>{escape(label)}</title>'
            "</path></svg>"
        )

    def axes(self) -> tuple[list[str], list[str]]:
        """Grid lines with their numbers, and the numbers on the left."""
        parts, labels = [], []
        low, high = self._scores
        step = round_step(high - low)
        for i in range(math.ceil(low / step), math.floor(high / step) + 1):
            labels.append(f"{step * i:.6g}")
            y = self.y(step * i)
            parts.append(
                f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="tick" x="0" dx="-8" y="{y + 4:.1f}" text-anchor="end">'
                f"{labels[-1]}</text>"
            )
        parts += map(self._size_line, _round_sizes(*self._sizes))
        return parts, labels

    def _size_line(self, nbytes: int) -> str:
        place = self.x(nbytes)
        return (
            f'<line class="grid" x1="{place:.2f}%" x2="{place:.2f}%" y1="0" '
            f'y2="{_HEIGHT - 26}"/><text class="tick" x="{place:.2f}%" y="{_HEIGHT - 8}" '
            f'text-anchor="middle">{file_size(nbytes)}</text>'
        )


def _round_sizes(low: float, high: float) -> list[int]:
    """1, 2 and 5 times the powers of ten between two natural logarithms of bytes."""
    powers = range(math.floor(low / math.log(10)), math.ceil(high / math.log(10)) + 1)
    sizes = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [int(size) for size in sizes if size >= 1 and low <= math.log(size) <= high]


def _best_of(tuning: Tuning, density: float) -> Candidate:
    best, *rest = (row for row in tuning.rows if row.density == density)
    for row in rest:
        if row.better(best, higher_is_better=tuning.higher_is_better):
            best = row
    return best


def _grid(tuning: Tuning) -> str:
    densities = list(dict.fromkeys(row.density for row in tuning.rows))
    alphas = list(dict.fromkeys(_alpha(row) for row in tuning.rows))
    scores = {(row.density, _alpha(row)): row.score for row in tuning.rows}
    names = [f"density {100 * density:.3g} %" for density in densities]
    columns = [f"alpha {alpha}" for alpha in alphas]
    values = [[scores.get((d, a)) for a in alphas] for d in densities]
    low, high = min(scores.values()), max(scores.values())
    reach = (low, high) if tuning.higher_is_better else (high, low)
    # Colors go from the worst score to the best, so for losses from the highest to the lowest.
    heat = heat_map(
        names,
        columns,
        values,
        description=f"Scores by density and alpha: {'; '.join(map(_label, tuning.rows))}",
        form=lambda value: f"{value:.6g}",
        short=lambda value: f"{value:.3g}",
        reach=reach,
    )
    caption = "Score by density and alpha; darker is better."
    return map_figure(heat, caption, label="Score by density and alpha")


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
    head = ["candidate", "bytes", "bits per parameter", "score", "modules erased"]
    return table(head, rows, label="Candidates that no smaller one beats")
