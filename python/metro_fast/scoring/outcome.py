"""The answer of a model to one prompt."""

from dataclasses import dataclass

from metro_fast.scoring.accuracy import margins

__all__ = ["Outcome"]


@dataclass(frozen=True)
class Outcome:
    """The answer of a model to one prompt.

    Attributes:
        prediction: Index of the choice, the first one in a tie; -1 if a written answer names no
            choice, or had no choices.
        scores: One score per choice, in nats or as the protocol normalizes them; None if the answer
            was written.
        text: What the model wrote; None if choices were scored.
        cut_tokens: Number of tokens that the input and the choices lost because they were too long.

    Example:
        >>> Outcome(1, (-2.0, -0.5)).margin
        1.5
    """

    prediction: int
    scores: tuple[float, ...] | None = None
    text: str | None = None
    cut_tokens: int = 0

    @property
    def margin(self) -> float | None:
        """By how much the best score leads the second; None without two scores; 0 is a tie."""
        if self.scores is None or len(self.scores) < 2:
            return None
        return margins([self.scores])[0]

    @property
    def tied(self) -> bool:
        """Whether several choices have the best score."""
        scores = self.scores
        return scores is not None and len(scores) > 1 and scores.count(max(scores)) > 1
