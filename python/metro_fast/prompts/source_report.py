"""Reports of reading files of others: how much was taken, and why the rest was not."""

from collections.abc import Sequence
from dataclasses import dataclass

from metro_fast._shown import shown
from metro_fast.errors import FormatError
from metro_fast.prompts.prompt import Reject, by_reason

__all__ = ["SourceReport"]


@dataclass(frozen=True, slots=True)
class SourceReport:
    """Counts of what was taken from a source.

    Args:
        source: The file, or what else was read.
        taken: How many items or instructions were taken.
        rejects: What was not taken, each with its reason.
        remarks: What was taken although some readings cannot use it, each with the reason.

    Example:
        >>> print(SourceReport("words.json", 2, [Reject("ask/3", "no place for the item")]))
        words.json: 2 of 3 taken (no place for the item: 1)
    """

    source: str
    taken: int
    rejects: Sequence[Reject] = ()
    remarks: Sequence[Reject] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rejects", tuple(self.rejects))
        object.__setattr__(self, "remarks", tuple(self.remarks))

    def __str__(self) -> str:
        text = f"{self.source}: {self.taken} of {self.taken + len(self.rejects)} taken"
        for label, counts in (
            ("", self.by_reason),
            ("taken with remark: ", self.remarks_by_reason),
        ):
            if counts:
                text += f" ({label}{', '.join(f'{k}: {v}' for k, v in counts.items())})"
        return text

    @property
    def by_reason(self) -> dict[str, int]:
        """Number of rejects of each reason."""
        return by_reason(self.rejects)

    @property
    def remarks_by_reason(self) -> dict[str, int]:
        """Number of remarks of each reason."""
        return by_reason(self.remarks)

    def check(self) -> None:
        """Refuse a source of which something was not taken.

        Raises:
            FormatError: If there is a reject; the message has the counts and the first of them.
        """
        if self.rejects:
            first = self.rejects[0]
            raise FormatError(
                f"{self}; the first is {shown(first.item_id)}: {shown(first.detail, 500)}"
            )
