"""The results of a run on a GPU, as JSON and as a table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """One measurement.

    Attributes:
        name: What was done, how large.
        time_us: Ours, microseconds.
        peer: What it is compared with.
        peer_ratio: The peer's time over ours, of the same run; None without a peer.
        floor_share: The physical limit's time over ours; None where none is known.
    """

    name: str
    time_us: float
    peer: str = ""
    peer_ratio: float | None = None
    floor_share: float | None = None


def result(
    name: str,
    ours: float,
    *,
    peer: str = "",
    theirs: float | None = None,
    floor: float | None = None,
) -> Result:
    """A measurement from times in seconds, rounded for the file."""
    return Result(
        name,
        round(1e6 * ours, 2),
        peer,
        None if theirs is None else round(theirs / ours, 3),
        None if floor is None else round(floor / ours, 3),
    )


def table(results: Sequence[Result]) -> str:
    """All measurements, one per line."""
    rows = [
        ("what", "time", "peer", "peer / ours", "of the floor"),
        *(
            (
                found.name,
                f"{found.time_us:,.1f} us",
                found.peer or "-",
                "-" if found.peer_ratio is None else f"{found.peer_ratio:.2f}x",
                "-" if found.floor_share is None else f"{100 * found.floor_share:.0f} %",
            )
            for found in results
        ),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def write(
    folder: Path, device: str, date: str, results: Sequence[Result], about: dict[str, Any]
) -> Path:
    """Keep a run: benches/results/gpu-<device>-<date>.json."""
    short = "".join(c if c.isalnum() else "-" for c in device.lower()).strip("-")
    path = folder / f"gpu-{short}-{date}.json"
    content = {"device": device, **about, "results": [asdict(found) for found in results]}
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path
