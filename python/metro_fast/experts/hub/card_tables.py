"""The tables of a model card, in Markdown."""

from collections.abc import Sequence

import numpy as np

from metro_fast import _core
from metro_fast.experts.adapters.peft_folder import EXPERT_FILE
from metro_fast.experts.adapters.updates import ModuleFidelity
from metro_fast.experts.file.expert_file import ExpertFile
from metro_fast.experts.file.manifest import ALIGNMENT
from metro_fast.ops.draws import resolve_threads
from metro_fast.ops.ternarize import CHUNK


def size_table(expert: ExpertFile) -> str:
    """Bytes, bits per parameter and the ratio to 16 bits, for the whole file."""
    manifest = expert.manifest
    rows = [
        ["file", f"`{EXPERT_FILE}`, {expert.nbytes:,} bytes"],
        ["parameters", f"{manifest.parameters:,}"],
        ["bits per parameter", f"{expert.bits_per_parameter:.3f}"],
        ["against 16 bits per parameter", f"{expert.ratio:.1f}x smaller"],
        ["scope of a threshold and a scale", manifest.scope],
        ["rule of the scale", manifest.alpha_rule],
    ]
    if manifest.base.revision:
        rows.append(["revision of the base", code(manifest.base.revision)])
    if expert.dense:
        kept = sum(tensor.data.nbytes for tensor in expert.dense.values())
        rows.append(["tensors kept whole", f"{len(expert.dense)}, {kept:,} bytes"])
    return table(["what", "value"], rows)


def group_table(expert: ExpertFile, rows: int) -> str:
    """Density asked for, share of nonzeros, alpha and scale of each group, the largest first.

    Raises:
        FormatError: If a stream is damaged.
    """
    groups = expert.manifest.groups
    sizes, nonzeros = [0] * len(groups), [0] * len(groups)
    # One bit per trit and not a byte: residuals of whole models have cards too.
    threads = resolve_threads(None, expert.manifest.trits, CHUNK)
    expert.check_size(1 / 4, "counting the trits of the expert")
    words = _core.planes(expert.block, threads)[0].view(np.uint32)
    for tensor in expert.manifest.tensors:
        first = tensor.start // ALIGNMENT
        own = words[first : first + -(-tensor.size // ALIGNMENT)]  # the gap after it holds zeros
        sizes[tensor.group] += tensor.size
        nonzeros[tensor.group] += int(np.bitwise_count(own).sum())
    order = sorted(range(len(groups)), key=lambda i: -sizes[i])
    shown = [
        [
            code(groups[i].name),
            f"{sizes[i]:,}",
            f"{groups[i].density:g}",
            f"{nonzeros[i] / max(1, sizes[i]):.4f}",
            f"{groups[i].alpha:.3f}",
            f"{float(expert.scales[i]):.6g}",
        ]
        for i in order[:rows]
    ]
    head = ["group", "entries", "density asked", "nonzero", "alpha", "scale"]
    text = table(head, shown)
    rest = [groups[i] for i in order[rows:]]
    if rest:
        low, high = (f"{pick(group.alpha for group in rest):.3f}" for pick in (min, max))
        alphas = low if low == high else f"{low} to {high}"
        text += f"\n\nand {len(rest)} more groups that are no larger, alpha {alphas}."
    return text


def module_table(modules: Sequence[ModuleFidelity], rows: int, exact: bool) -> str:
    """The modules whose updates have the lowest cosines, lowest first."""
    worst = sorted(modules, key=lambda row: (row.cosine, row.module))[:rows]
    cosines = [row.cosine for row in modules]
    how = "computed from the weights" if exact else "estimated when it was compressed"
    shown = [[code(row.module), f"{row.cosine:.3f}", f"{row.norm_ratio:.3f}"] for row in worst]
    return (
        f"Over {len(modules)} modules, the cosine between the updates before and after compression "
        f"is {min(cosines):.3f} to {max(cosines):.3f} ({how}). These lost most:\n\n"
        + table(["module", "cosine", "length ratio"], shown)
        + "\n\nCosines compare modules of one expert; task scores show how good it is."
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    Example:
        >>> print(table(["a", "b"], [["1", "2"]]))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    lines = ["| " + " | ".join(row) + " |" for row in [head, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def code(text: str) -> str:
    r"""Untrusted text as code within a cell, escaped so that it can end neither.

    Example:
        >>> print(code("a|b`c"))
        `a\|b'c`
    """
    safe = "".join(letter if letter.isprintable() else " " for letter in text)
    return "`{}`".format(safe.replace("`", "'").replace("|", "\\|"))
