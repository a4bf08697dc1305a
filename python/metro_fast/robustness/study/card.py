"""The card of a model: its size, its family, and the expert that is on it."""

from dataclasses import dataclass
from typing import Any

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.prompts.item import check_text, strings

__all__ = ["KINDS", "ModelCard", "SwappedIn"]

KINDS = ("base", "expert", "compressed", "merged", "other")
"""A model alone; with an expert at full size, a compressed one, or merged ones; or not said."""


@dataclass(frozen=True)
class SwappedIn:
    """The expert that makes a model of a base.

    Args:
        source: Its folder or name on the Hub.
        size_bytes: Bytes of its weights file.
        density: Share of its weights that are not 0; None for one at full size.
        original: Name of the card of the expert at full size that it was compressed from; None if
            it is unknown or absent.

    Raises:
        TypeError: If a value has another type.
        MetroFastError: If a number is out of range, or a name is empty.

    Example:
        >>> SwappedIn("experts/20", 55_800, 0.2, original="full").density
        0.2
    """

    source: str
    size_bytes: int
    density: float | None = None
    original: str | None = None

    def __post_init__(self) -> None:
        _check_name(self.source, "the expert's source")
        _check_count(self.size_bytes, "the expert's size_bytes")
        if self.density is not None:
            if isinstance(self.density, bool) or not isinstance(self.density, int | float):
                raise TypeError(f"the expert's density is {quoted(self.density)}; give a number")
            if not 0 < self.density <= 1:
                raise MetroFastError(
                    f"the expert's density is {self.density}, expected a share above 0, at most 1"
                )
        if self.original is not None:
            _check_name(self.original, "the expert's original")


@dataclass(frozen=True)
class ModelCard:
    """One model of a study.

    Args:
        name: Its name in every table; that of its report.
        family: Models of one family and of several sizes are on one scale curve.
        kind: One of `KINDS`.
        size: Number of parameters of the whole model, with its expert; None if it is not known.
        seen_tasks: Names of the tasks that it was trained with.
        base: Name of the card of the model that the expert is on; None for a base, or if no report
            of it is in the study.
        expert: The expert that was put on the base; None for a base.

    Raises:
        TypeError: If a value has another type.
        MetroFastError: If a name is empty, a number is out of range, the kind is unknown, a model
            is its own base, or a base has an expert.

    Example:
        >>> card = ModelCard(
        ...     "small",
        ...     "t5",
        ...     "compressed",
        ...     base="t5-small",
        ...     expert=SwappedIn("experts/20", 55_800, 0.2, original="full"),
        ... )
        >>> card.expert.size_bytes, card.references
        (55800, ('t5-small', 'full'))
    """

    name: str
    family: str
    kind: str = "other"
    size: int | None = None
    seen_tasks: tuple[str, ...] = ()
    base: str | None = None
    expert: SwappedIn | None = None

    def __post_init__(self) -> None:
        _check_name(self.name, "the model's name")
        where = f"card {quoted(self.name)}"
        _check_name(self.family, f"{where}: family")
        if self.kind not in KINDS:
            raise MetroFastError(
                f"{where}: kind is {quoted(self.kind)}; give one of {', '.join(KINDS)}"
            )
        if self.size is not None:
            _check_count(self.size, f"{where}: size")
        object.__setattr__(self, "seen_tasks", strings(self.seen_tasks, f"{where}: seen_tasks"))
        if self.base is not None:
            _check_name(self.base, f"{where}: base")
        if self.expert is not None and not isinstance(self.expert, SwappedIn):
            raise TypeError(f"{where}: expert is {quoted(self.expert)}; give a SwappedIn")
        if self.kind == "base" and (self.base is not None or self.expert is not None):
            raise MetroFastError(
                f"{where} is of the kind base, which has no base and no expert: give another kind"
            )
        if self.name in self.references:
            raise MetroFastError(f"{where} names itself as its base or original: name another card")

    @property
    def references(self) -> tuple[str, ...]:
        """Names of the cards that it is compared with: its base, and its expert at full size."""
        original = None if self.expert is None else self.expert.original
        return tuple(name for name in (self.base, original) if name is not None)

    def to_record(self) -> dict[str, Any]:
        """The card as plain JSON values."""
        expert = self.expert
        return {
            "name": self.name,
            "family": self.family,
            "kind": self.kind,
            "size": self.size,
            "seen_tasks": list(self.seen_tasks),
            "base": self.base,
            "expert": None if expert is None else dict(vars(expert)),
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "ModelCard":
        """The card of `to_record`.

        Raises:
            TypeError: If a field is unknown or lacks, or as for the card.
            MetroFastError: As for the card.
        """
        fields = dict(record)
        if fields.get("expert") is not None:
            fields["expert"] = SwappedIn(**fields["expert"])
        return cls(**fields)


def _check_name(value: object, where: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{where} is {quoted(value)}; give a string")
    check_text(value, where)
    if not value.strip():
        raise MetroFastError(f"{where} is empty: every number is shown with it, so name it")


def _check_count(value: object, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{where} is {quoted(value)}; give a whole number")
    if value < 1:
        raise MetroFastError(f"{where} is {value}, expected at least 1")
