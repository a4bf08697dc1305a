"""The page of one compressed expert."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Literal

import numpy as np

from metro_fast._page import Section, figure, table
from metro_fast._shown import shown
from metro_fast._svg import svg
from metro_fast.experts.adapters.updates import ModuleFidelity
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.describe import TensorRow
from metro_fast.experts.pictures.byte_shares import byte_shares
from metro_fast.experts.pictures.heat_map import BLUE, ORANGE, heat_map
from metro_fast.experts.pictures.histogram import histogram
from metro_fast.experts.pictures.losses import loss_sections
from metro_fast.experts.pictures.page import map_figure, page
from metro_fast.experts.pictures.places import in_order, places_of


def expert_page(expert: Expert, title: str, kept: Sequence[ModuleFidelity] | None = None) -> str:
    """Density and scale by layer and module, and the parts of the file; one offline HTML page.

    Args:
        expert: The expert; all of it is decoded.
        title: Heading of the page, for instance the expert's path.
        kept: How well the update of each module is kept, from `fidelity`: the page then begins with
            what is lost.

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
    empty = [row["tensor"] for row in rows if row["density"] == 0 and np.prod(row["shape"]) > 0]
    if empty:
        some = ", ".join(map(shown, empty[:3])) + (", ..." if len(empty) > 3 else "")
        lead.append(f"{len(empty)} of {len(rows)} tensors have only zeros left: {some}.")
    if kept is None:
        lead.append(
            "How much of each update is lost can be seen with the adapter that the expert was made "
            "of (--adapter on the command line)."
        )
    groups = [
        [group.name, f"{group.density:g}", f"{group.alpha:.3f}", f"{float(scale):.6g}"]
        for group, scale in zip(manifest.groups, expert.scales, strict=True)
    ]
    head = ["group", "requested density", "alpha", "scale"]
    sections = [
        *(loss_sections(kept) if kept else []),
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
    densities = [100 * row["density"] for row in rows]
    picture = histogram(
        densities,
        [float(np.prod(row["shape"])) for row in rows],
        reach=(0.0, max(*densities, 1e-4) if densities else 1.0),
        unit="parameters",
        form=lambda value: f"{value:.3g} %",
        things="tensors",
        axis="density of the tensor",
    )
    quantiles = ", ".join(
        f"{name} {float(q):.2f} %"
        for name, q in zip(
            ("lowest", "median", "highest"), np.quantile(densities, (0, 0.5, 1)), strict=True
        )
    )
    caption = f"Parameters by the density of their tensor. Densities of the tensors: {quantiles}."
    return figure(picture, caption)


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
