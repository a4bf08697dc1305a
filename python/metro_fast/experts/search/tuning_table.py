"""The results of a grid of densities and alphas."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from metro_fast._atomic import write_atomically
from metro_fast.experts.expert import Expert

Alpha = float | str
RULE = "best score; among equal scores the fewest bytes, then the first that was tried"


@dataclass(frozen=True)
class Candidate:
    """One compression of an adapter.

    Attributes:
        density: Share of entries that are kept.
        alpha: The scale, as for `compress`; None if the quantizer computes it.
        nbytes: Bytes of the file.
        bits_per_parameter: Bits of the file over all parameters.
        score: The score from the caller's function.
        erased: Modules whose update is erased.
    """

    density: float
    alpha: Alpha | None
    nbytes: int
    bits_per_parameter: float
    score: float
    erased: tuple[str, ...] = ()

    def better(self, other: "Candidate", *, higher_is_better: bool) -> bool:
        """Whether this candidate is chosen over one that was tried before it.

        Args:
            other: The earlier candidate.
            higher_is_better: Whether a higher score is better.

        Example:
            >>> one, two = (Candidate(0.1, 1.0, size, 1.0, 0.5) for size in (300, 200))
            >>> two.better(one, higher_is_better=True)
            True
        """
        mine, theirs = self.score, other.score
        if mine == theirs:
            return self.nbytes < other.nbytes
        return mine > theirs if higher_is_better else mine < theirs


@dataclass(frozen=True)
class Tuning:
    """All candidates, and the one that was chosen.

    Attributes:
        rows: The candidates, density by density.
        best: The candidate chosen by `rule`.
        expert: The expert of the best candidate.
        original_score: The score of the uncompressed adapter; None if it was not scored.
        original_nbytes: Bytes of the uncompressed tensors in their own dtypes.
        higher_is_better: Whether a higher score is better.
        rule: A description of how the best candidate was chosen.
    """

    rows: tuple[Candidate, ...]
    best: Candidate
    expert: Expert
    original_score: float | None
    original_nbytes: int
    higher_is_better: bool
    rule: str = RULE

    def __repr__(self) -> str:
        best = self.best
        alpha = "" if best.alpha is None else f", alpha {best.alpha}"
        return (
            f"<Tuning of {len(self.rows)} candidates; best: density {best.density:g}{alpha}, "
            f"{best.nbytes:,} bytes, score {best.score:.4g}>"
        )

    @property
    def pareto(self) -> tuple[Candidate, ...]:
        """Candidates for which no smaller one has an equal or better score, the smallest first."""
        front: list[Candidate] = []
        sign = -1 if self.higher_is_better else 1
        for row in sorted(self.rows, key=lambda row: (row.nbytes, sign * row.score)):
            if not front or sign * row.score < sign * front[-1].score:
                front.append(row)
        return tuple(front)

    def write_csv(self, path: str | Path) -> None:
        """Write the candidates as a table, after a row for the uncompressed adapter."""
        file = io.StringIO(newline="")
        writer = csv.writer(file)
        writer.writerow(["density", "alpha", "bytes", "bits_per_parameter", "score", "erased"])
        if self.original_score is not None:
            writer.writerow(["", "", self.original_nbytes, "", self.original_score, 0])
        for row in self.rows:
            alpha = "" if row.alpha is None else row.alpha
            bits, erased = row.bits_per_parameter, len(row.erased)
            writer.writerow([row.density, alpha, row.nbytes, bits, row.score, erased])
        write_atomically(path, file.getvalue())
