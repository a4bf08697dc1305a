"""The result of an importer."""

from typing import NamedTuple

from metro_fast.prompts.instruction_set import InstructionSet
from metro_fast.prompts.source_report import SourceReport

__all__ = ["Imported"]


class Imported(NamedTuple):
    """Instructions of others, and what of their source was not taken.

    Attributes:
        instructions: The instructions.
        report: Counts of what was taken and, by reason, of what was not.
    """

    instructions: InstructionSet
    report: SourceReport
