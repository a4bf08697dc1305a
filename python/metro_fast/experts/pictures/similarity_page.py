"""The page of the cosines between experts, on which similar experts are next to each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast._extras import require
from metro_fast._page import Section, table
from metro_fast.errors import MetroFastError
from metro_fast.experts.pictures.heat_map import heat_map
from metro_fast.experts.pictures.page import map_figure, page

_LISTED = 20


def similarity_page(
    names: Sequence[str], matrix: NDArray[np.float64], title: str = "Similarity of experts"
) -> str:
    """A heat map of all pairs, ordered by average-linkage clustering; one offline HTML page.

    Args:
        names: The names of the experts, at least one.
        matrix: float64 [experts, experts]: symmetric cosines, as returned by `similarity`.
        title: Heading of the page.

    Returns:
        HTML.

    Raises:
        MissingExtraError: If scipy is not installed.
        MetroFastError: If the numbers of names and rows differ, or the matrix is not symmetric
            with values from -1 to 1.

    Example:
        >>> html = similarity_page(["a", "b"], np.array([[1.0, 0.25], [0.25, 1.0]]))
        >>> "a, b: 0.250" in html
        True
    """
    values = np.asarray(matrix, np.float64)
    if values.shape != (len(names), len(names)) or not names:
        raise MetroFastError(
            f"{len(names)} names for a matrix of shape {values.shape}, expected one name per row "
            "and at least one"
        )
    if not (np.abs(values) <= 1 + 1e-9).all() or not np.allclose(values, values.T):
        raise MetroFastError("the matrix is not symmetric with values from -1 to 1")
    order = clustered(values)
    ordered = [names[i] for i in order]
    sorted_values = values[np.ix_(order, order)]
    count = len(names)
    pairs = [
        (float(values[i, j]), names[i], names[j]) for i in range(count) for j in range(i + 1, count)
    ]
    pairs.sort(key=lambda pair: -pair[0])
    heat = heat_map(
        ordered,
        ordered,
        [[float(v) for v in row] for row in sorted_values],
        description=f"Cosines of {len(names)} experts. {_sentence(pairs)}",
        form=lambda value: f"{value:.3f}",
        short=lambda value: f"{value:.2f}",
        reach=(0.0, 1.0),
    )
    caption = (
        "Cosine of what two experts add to the weights: blue is similar, orange opposite. Experts "
        "are ordered by average-linkage clustering of 1 minus the cosine, so that similar experts "
        "are next to each other."
    )
    rows = [[f"{one}, {two}", f"{cosine:.3f}"] for cosine, one, two in pairs[:_LISTED]]
    sections = [
        Section("All pairs", map_figure(heat, caption, label="Cosines of all pairs")),
        Section("The closest pairs", table(["pair", "cosine"], rows, label="The closest pairs")),
    ]
    return page(title, [f"{len(names)} experts. {_sentence(pairs)}"], sections)


def clustered(matrix: NDArray[np.float64]) -> list[int]:
    """The indices of the experts, in the order of the leaves of average-linkage clustering.

    Args:
        matrix: float64 [experts, experts], symmetric cosines.

    Raises:
        MissingExtraError: If scipy is not installed.

    Example:
        >>> m = np.array([[1, 0, 0.9], [0, 1, 0], [0.9, 0, 1]])
        >>> order = clustered(m)
        >>> abs(order.index(0) - order.index(2))
        1
    """
    if len(matrix) < 3:
        return list(range(len(matrix)))
    hierarchy: Any = require("scipy.cluster.hierarchy", "eval")
    above = np.triu_indices(len(matrix), 1)
    distances = np.clip(1 - np.asarray(matrix, np.float64)[above], 0, None)
    tree = hierarchy.linkage(distances, method="average", optimal_ordering=True)
    return [int(i) for i in hierarchy.leaves_list(tree)]


def _sentence(pairs: Sequence[tuple[float, str, str]]) -> str:
    if not pairs:
        return "There is no pair to compare."
    cosine, one, two = pairs[0]
    return f"The closest pair is {one} and {two}, at cosine {cosine:.3f}."
