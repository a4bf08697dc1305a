"""The last line of a `prepare`: how much was read and written, and what was left out."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from metro_fast.data.folders import describe
from metro_fast.data.reading import BAD, BLANK, BYTE_MARKS, REPLACED

SKIPPED = "skipped "
_CHANGED = {
    BYTE_MARKS: ("byte order mark", "removed"),
    REPLACED: ("document", "with replaced bytes"),
}


def last_line(folder: Path, counts: Mapping[str, int], tokens: int, seconds: float | None) -> str:
    """The line.

    Args:
        folder: The finished folder.
        counts: Its counts.
        tokens: Tokens that this call made.
        seconds: Duration of this call; None if the folder was already finished.

    Example:
        >>> last_line(Path("corpus"), {"files": 1, "documents": 3, "tokens": 70}, 70, 0.5)
        'wrote corpus: 1 file, 3 documents, 70 tokens, 140 tokens a second'
        >>> counts = {"files": 2, "documents": 1, "tokens": 9, "blank": 4, "skipped .md file": 1}
        >>> last_line(Path("corpus"), counts, 0, None)
        'corpus is already finished: 2 files, 1 document, 9 tokens; left out: 1 .md file, \
4 blank documents'
    """
    parts = [
        _several(counts[name], name[:-1]) for name in ("files", "datasets") if counts.get(name)
    ]
    parts += [_several(counts.get(name, 0), name[:-1]) for name in ("documents", "tokens")]
    if seconds is not None:
        parts.append(f"{tokens / max(seconds, 1e-9):.0f} tokens a second")
    start = f"wrote {folder}" if seconds is not None else f"{folder} is already finished"
    line = f"{start}: {', '.join(parts)}"
    entries = Counter(
        {n.removeprefix(SKIPPED): count for n, count in counts.items() if n.startswith(SKIPPED)}
    )
    out = [describe(entries)] if entries else []
    out += [
        _several(counts[name], f"{kind} document")
        for name, kind in ((BLANK, "blank"), (BAD, "undecodable"))
        if counts.get(name)
    ]
    line += f"; left out: {', '.join(out)}" if out else ""
    changed = [
        f"{_several(counts[name], thing)} {done}"
        for name, (thing, done) in _CHANGED.items()
        if counts.get(name)
    ]
    return line + (f"; changed: {', '.join(changed)}" if changed else "")


def _several(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
