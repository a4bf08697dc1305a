"""The page of one compressed expert."""

from collections.abc import Mapping
from html import escape
from typing import Literal

import numpy as np

from metro_fast._page import Section, figure, table
from metro_fast._svg import svg
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.describe import TensorRow
from metro_fast.experts.pictures.byte_shares import byte_shares
from metro_fast.experts.pictures.heat_map import BLUE, ORANGE, heat_map
from metro_fast.experts.pictures.page import map_figure, page
from metro_fast.experts.pictures.places import in_order, places_of

_BINS = 20


def expert_page(expert: Expert, title: str) -> str:
    """Density and scale by layer and module, and the parts of the file; one offline HTML page.

    Args:
        expert: The expert; all of it is decoded.
        title: Heading of the page, for instance the expert's path.

    Returns:
        HTML.

    Raises:
        FormatError: If a stream is damaged.

    Example:
        >>> from metro_fast.experts import compress
        >>> expert = compress({"layers.0.q.ia3_l": np.float32([1.5, 1.0])}, density=0.5)
        >>> "layers.0, q: 50.00 %" in expert_page(expert, "tiny")
        True
    """
    rows = [row for row in expert.describe() if row["group"] != "dense"]
    manifest = expert.manifest
    ratio = 16 / expert.bits_per_parameter
    base = "an unnamed base" if manifest.base.model is None else manifest.base.model
    lead = [
        f"{manifest.parameters:,} parameters in {expert.nbytes:,} bytes: "
        f"{expert.bits_per_parameter:.3f} bits per parameter, {ratio:.1f} times smaller than "
        f"16-bit weights. Kind {manifest.kind}, scope {manifest.scope}, made for {base}.",
    ]
    empty = sum(1 for row in rows if row["density"] == 0 and np.prod(row["shape"]) > 0)
    if empty:
        lead.append(f"{empty} of {len(rows)} tensors have only zeros left.")
    groups = [
        [group.name, f"{group.density:g}", f"{group.alpha:.3f}", f"{float(scale):.6g}"]
        for group, scale in zip(manifest.groups, expert.scales, strict=True)
    ]
    head = ["group", "requested density", "alpha", "scale"]
    sections = [
        Section("Parts of the file", _bytes(byte_shares(expert))),
        Section("Density by layer and module", _map(rows, "density")),
        Section("Distribution of densities", _histogram(rows)),
        Section("Scale by layer and module", _map(rows, "scale")),
    ]
    if len(groups) <= 40:
        sections.append(Section("Groups", table(head, groups, label="Groups")))
    return page(title, lead, sections)


def _map(rows: list[TensorRow], field: Literal["density", "scale"]) -> str:
    places = places_of([row["tensor"] for row in rows])
    values = {places[row["tensor"]]: float(row[field]) for row in rows}
    layers = in_order([layer for layer, _ in places.values()])
    modules = list(dict.fromkeys(module for _, module in sorted(places.values())))
    density = field == "density"
    heat = heat_map(
        layers,
        modules,
        [[values.get((layer, module)) for module in modules] for layer in layers],
        description=f"{field.capitalize()} of {len(rows)} tensors by layer and module",
        form=(lambda v: f"{100 * v:.2f} %") if density else (lambda v: f"{v:.4g}"),
        short=(lambda v: f"{100 * v:.0f}") if density else (lambda v: f"{v:.2g}"),
        color=BLUE if density else ORANGE,
    )
    caption = (
        "Share of a tensor's entries that are kept, in percent. Tensors of one group share a "
        "threshold, so tensors with larger entries keep more of them."
        if density
        else "The value that a trit of a tensor stands for. Tensors of one group share a scale."
    )
    return map_figure(heat, caption, label=f"{field.capitalize()} by layer and module")


def _histogram(rows: list[TensorRow]) -> str:
    """A histogram of parameters by the density of their tensor."""
    sizes = np.array([np.prod(row["shape"]) for row in rows], np.float64)
    densities = np.array([row["density"] for row in rows])
    high = max(float(densities.max(initial=0)), 1e-6)
    counts, edges = np.histogram(densities, _BINS, (0, high), weights=sizes)
    tensors, _ = np.histogram(densities, _BINS, (0, high))
    height, width, parts = 120, 100 / _BINS, []
    for i, count in enumerate(counts):
        tall = 0 if count == 0 else max(1.5, (height - 26) * count / counts.max())
        label = (
            f"{100 * edges[i]:.2f} to {100 * edges[i + 1]:.2f} %: {int(tensors[i])} tensors, "
            f"{int(count):,} parameters"
        )
        parts.append(
            f'<rect class="bar" x="{i * width + 0.1:.2f}%" y="{height - 20 - tall:.1f}" '
            f'width="{width - 0.2:.2f}%" height="{tall:.1f}"><title>{escape(label)}</title></rect>'
        )
    for at, anchor, value in ((0, "start", 0.0), (50, "middle", high / 2), (100, "end", high)):
        parts.append(
            f'<text class="tick" x="{at}%" y="{height - 4}" text-anchor="{anchor}">'
            f"{100 * value:.3g} %</text>"
        )
    quantiles = ", ".join(
        f"{name} {100 * float(q):.2f} %"
        for name, q in zip(
            ("lowest", "median", "highest"), np.quantile(densities, (0, 0.5, 1)), strict=True
        )
    )
    caption = f"Parameters by the density of their tensor. Densities of the tensors: {quantiles}."
    return figure(svg(parts, height, caption), caption)


def _bytes(shares: Mapping[str, int]) -> str:
    total, at = sum(shares.values()), 0.0
    parts, keys = [], []
    for number, (name, nbytes) in enumerate(shares.items()):
        label = f"{name}: {nbytes:,} bytes, {100 * nbytes / total:.1f} %"
        width = 100 * nbytes / total
        parts.append(
            f'<rect class="c{number}" x="{at:.3f}%" y="0" width="{width:.3f}%" height="26">'
            f"<title>{escape(label)}</title></rect>"
        )
        keys.append(f'<span><i class="key k{number}"></i>{escape(label)}</span>')
        at += width
    legend = f'<p class="legend">{"".join(keys)}</p>'
    return svg(parts, 28, f"Parts of the file in bytes: {'; '.join(shares)}") + legend
