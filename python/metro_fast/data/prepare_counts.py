"""The last line of a `prepare`: how much was read and written, and what was left out."""

import logging
from collections import Counter
from collections.abc import Mapping

from metro_fast.data.folders import describe
from metro_fast.data.pieces import UNKNOWN
from metro_fast.data.reading import BAD, BLANK, BYTE_MARKS, REPLACED

_logger = logging.getLogger(__name__)

SKIPPED = "skipped "
MANY_UNKNOWN = 0.01
"""Share of unknown tokens from which on there is a warning."""
_CHANGED = {
    BYTE_MARKS: ("byte order mark", "removed"),
    REPLACED: ("document", "with replaced bytes"),
}


def warn_of_unknown(counts: Mapping[str, int]) -> None:
    """Warn if so many tokens are unknown that the tokenizer is hardly one for these texts."""
    share = _unknown_share(counts)
    if share >= MANY_UNKNOWN:
        _logger.warning(
            "%.2g %% of the tokens are unknown ones, whose letters are lost: the tokenizer is not "
            "one for these texts; train one on them (train_tokenizer, --train-vocabulary), or take "
            "one of bytes",
            100 * share,
        )


def _unknown_share(counts: Mapping[str, int]) -> float:
    return counts.get(UNKNOWN, 0) / max(1, counts.get("tokens", 0))


def last_line(start: str, counts: Mapping[str, int], speed: float | None = None) -> str:
    """The line.

    Args:
        start: Its first words.
        counts: The counts of the finished folder.
        speed: Tokens a second, if this call made any.

    Example:
        >>> last_line("wrote corpus", {"files": 1, "documents": 3, "tokens": 70}, 139.7)
        'wrote corpus: 1 file, 3 documents, 70 tokens, 140 tokens a second'
        >>> counts = {"files": 2, "documents": 1, "tokens": 9, "blank": 4, "skipped .md file": 1}
        >>> last_line("corpus is already finished", counts)
        'corpus is already finished: 2 files, 1 document, 9 tokens; left out: 1 .md file, \
4 blank documents'
    """
    parts = [
        _several(counts[name], name[:-1]) for name in ("files", "datasets") if counts.get(name)
    ]
    parts += [_several(counts.get(name, 0), name[:-1]) for name in ("documents", "tokens")]
    if counts.get(UNKNOWN):
        parts[-1] += f" ({100 * _unknown_share(counts):.2g} % unknown)"
    if speed is not None:
        parts.append(f"{speed:.0f} tokens a second")
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
