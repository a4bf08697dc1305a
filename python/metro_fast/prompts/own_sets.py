"""The instruction sets that come with the package."""

from pathlib import Path

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.prompts.instruction_set import InstructionSet

__all__ = ["OWN_SETS", "own_instructions"]

OWN_SETS = ("re", "re-qa", "qa", "nli", "sentiment")
"""Relations by name and as a question with lettered options; questions; inference; sentiment."""

_FOLDER = Path(__file__).parent / "sets"


def own_instructions(name: str) -> InstructionSet:
    """An instruction set of this package.

    Each has 20 wordings and 5 controls. Ten wordings have the style `seen-like`: they are close to
    the templates that instruction-tuned models were trained with, though no model has seen these
    very texts, so that `seen_by` is empty; the other ten, `unseen-like`, are far from them. Two
    controls ask for a wrong answer (`negated`), two for another task (`wrong`), and one for nothing
    (`empty`).

    Args:
        name: One of `OWN_SETS`. Items need the fields `sentence`, `e1` and `e2` for `re`;
            `sentence`, `e1`, `e2` and `statements` for `re-qa`; `question` for `qa`; `premise` and
            `hypothesis` for `nli`; and `text` for `sentiment`. The task types are `re`, `re`, `qa`,
            `nli` and `sentiment`: both readings of relations are asked of the same items.

    Returns:
        The set.

    Raises:
        MetroFastError: If there is no such set.

    Example:
        >>> words = own_instructions("nli")
        >>> len(words), len(words.of_kind("wording")), words[0].id
        (25, 20, 'nli/seen/1')
    """
    if name not in OWN_SETS:
        raise MetroFastError(
            f"there is no instruction set {quoted(name)}; give one of {', '.join(OWN_SETS)}"
        )
    return InstructionSet.load(_FOLDER / f"{name}.yaml")
