"""Whether a name is a model family that instructions know."""

from metro_fast._shown import quoted
from metro_fast.prompts.instruction_set import InstructionSet

__all__ = ["unknown_family_warning"]


def unknown_family_warning(instructions: InstructionSet, model_family: str) -> str | None:
    """The warning that a model family is in the `seen_by` of no instruction.

    Then every instruction counts as unseen, which may be a misspelling.

    Args:
        instructions: The instructions.
        model_family: The name.

    Returns:
        The warning, which names the families that are known; None if the family is one of them.

    Example:
        >>> from metro_fast.prompts import Instruction
        >>> words = InstructionSet([Instruction("a", "re", "{{ x }}?", seen_by=("t0", "flan-t5"))])
        >>> unknown_family_warning(words, "t0")
        >>> print(unknown_family_warning(words, "T0"))
        no instruction has the model family 'T0' in its seen_by; the known ones are flan-t5, t0
    """
    known = instructions.families
    if model_family in known:
        return None
    listed = f"the known ones are {', '.join(known)}" if known else "they name no family at all"
    return f"no instruction has the model family {quoted(model_family)} in its seen_by; {listed}"
