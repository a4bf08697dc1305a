"""Find a label in a text that a model wrote."""

from collections.abc import Iterable, Sequence

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.scoring.mentions import is_negated, mentions, squeezed

__all__ = ["label_names", "match_label", "normalized_text"]


def normalized_text(text: str) -> str:
    """A text without what does not matter for a match.

    NFKC, lower case, every run of white space as one space, and no punctuation at the two ends.

    Args:
        text: Any text.

    Returns:
        The text, which may be empty.

    Example:
        >>> normalized_text(' "Yes."  ')
        'yes'
    """
    return squeezed(text).lower()


def match_label(text: str, labels: Sequence[str], texts: Sequence[str] = ()) -> int:
    """Find the label that a text names.

    After `normalized_text` of both, the rules are tried in this order: the text is a label; it
    begins with one as whole words (the longest wins); a label is in it as whole words (the first
    wins, and at the same place the longest). Nothing is drawn at random.

    The words of a label may be joined by a space, a hyphen or an underscore, and there may be
    spaces around its punctuation; otherwise a label is part of no longer word, compound or number:
    "Other" is not in "Other-Agency". A mention directly after "not", "n't", "never" or "no" is
    passed over.

    A label of one letter is found inside a longer text only as a capital, in parentheses, after
    "option", "choice" or "answer is", or at its end. "A" and "I" are words of English too:
    before a word in lower case they are labels only in "option A", "choice A", "A is", "A because",
    "A since" and "A or".

    Args:
        text: What a model wrote.
        labels: The labels.
        texts: If the labels are letters, the text that each of them is for. Where the text names no
            label, it may name one of these instead, by the same rules; a letter inside of such a
            name, as in "vitamin C", is not a label. Texts that are blank or equal after
            normalization are not used.

    Returns:
        The index of the label, or -1 if the text names none.

    Raises:
        MetroFastError: If a label is empty after normalization, or two are equal, or there are
            texts, but not as many as labels.

    Example:
        >>> match_label("An article about it", ["a", "about"])
        1
        >>> match_label("The answer is a number: C", ["A", "B", "C", "D"])
        2
        >>> match_label("It is Paris.", ["A", "B"], ["Rome", "Paris"])
        1
    """
    names = label_names(labels, texts)
    written = squeezed(text)
    if written.lower() in names:
        return names.index(written.lower())
    behind = _usable(texts)
    covered = [span for name in behind.values() for span in mentions(name, written)]
    found = _first(enumerate(names), written, covered)
    return _first(behind.items(), written, ()) if found < 0 else found


def label_names(labels: Sequence[str], texts: Sequence[str] = ()) -> list[str]:
    """Normalize labels, and check that a text can name each of them.

    Args:
        labels: The labels.
        texts: The texts behind the labels, if these are letters.

    Raises:
        MetroFastError: If a label is empty after normalization, or two are equal, or there are
            texts, but not as many as labels.
    """
    if len(texts) not in (0, len(labels)):
        raise MetroFastError(
            f"there are {len(labels)} labels and {len(texts)} texts; give one text for each label, "
            "or none"
        )
    names = [normalized_text(label) for label in labels]
    for index, name in enumerate(names):
        if not name:
            raise MetroFastError(
                f"label {quoted(labels[index])} is empty without its punctuation; give one with "
                "words"
            )
        if name in names[:index]:
            raise MetroFastError(
                f"labels {quoted(labels[names.index(name)])} and {quoted(labels[index])} are equal "
                "after normalization, so that no text can name one of them; give distinct labels"
            )
    return names


def _usable(texts: Sequence[str]) -> dict[int, str]:
    """The texts by index that name one choice each."""
    names = [normalized_text(text) for text in texts]
    return {i: name for i, name in enumerate(names) if name and names.count(name) == 1}


def _first(
    names: Iterable[tuple[int, str]], written: str, covered: Sequence[tuple[int, int]]
) -> int:
    """Index of the name that is mentioned first and not negated; -1 without any.

    A label at the start has the place 0, so that this is both of the rules about places.
    """
    lower = written.lower()
    found = [
        # At the same place the longest; "part of" before "part-of" if it is so in the text.
        (start, -end, lower[start:end] != name, index)
        for index, name in names
        for start, end in mentions(name, written)
        if not any(a <= start and end <= b and end - start < b - a for a, b in covered)
        and not is_negated(written, start)
    ]
    return min(found)[-1] if found else -1
