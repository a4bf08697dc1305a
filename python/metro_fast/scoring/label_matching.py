"""Find a label in a text that a model wrote."""

import re
import unicodedata
from collections.abc import Sequence

from metro_fast.errors import MetroFastError

__all__ = ["label_names", "match_label", "normalized_text"]

_EDGES = " \t\r\n.,:;()[]\"'`<>"


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
    return _squeezed(text).lower()


def match_label(text: str, labels: Sequence[str]) -> int:
    """Find the label that a text names.

    After `normalized_text` of both, the rules are tried in this order: the text is a label; it
    begins with one, and no letter or digit follows (the longest wins); a label is in it as a whole
    word (the first wins, and at the same place the longest). Nothing is drawn at random.

    If labels have hyphens, a hyphen is part of a word, so that "Other" is not in "Other-Agency". A
    label of one letter is found inside a longer text only as a capital or at its end, and as "A" or
    "I" only as a capital that is not followed by a word in lower case, because those are words of
    English too.

    Args:
        text: What a model wrote.
        labels: The labels.

    Returns:
        The index of the label, or -1 if the text names none.

    Raises:
        MetroFastError: If a label is empty after normalization, or two are equal.

    Example:
        >>> match_label("An article about it", ["a", "about"])
        1
        >>> match_label("The answer is a number: C", ["A", "B", "C", "D"])
        2
    """
    names = label_names(labels)
    cased = _squeezed(text)
    answer = cased.lower()
    if answer in names:
        return names.index(answer)
    hyphens = any("-" in name for name in names)
    found = [
        (start, -len(name), index)
        for index, name in enumerate(names)
        for start in (_letters(name, cased) if _is_letter(name) else _words(name, answer, hyphens))
    ]
    # A label at the start has the place 0, so this is both of the other rules.
    return min(found)[2] if found else -1


def label_names(labels: Sequence[str]) -> list[str]:
    """Normalize labels, and check that a text can name each of them.

    Raises:
        MetroFastError: If a label is empty after normalization, or two are equal.
    """
    names = [normalized_text(label) for label in labels]
    for index, name in enumerate(names):
        if not name:
            raise MetroFastError(
                f"label {labels[index]!r} is empty without its punctuation; give one with words"
            )
        if name in names[:index]:
            raise MetroFastError(
                f"labels {labels[names.index(name)]!r} and {labels[index]!r} are equal after "
                "normalization, so that no text can name one of them; give distinct labels"
            )
    return names


def _squeezed(text: str) -> str:
    """The text with the case of its letters, and otherwise as `normalized_text` gives it."""
    return " ".join(unicodedata.normalize("NFKC", text).split()).strip(_EDGES)


def _is_letter(name: str) -> bool:
    return len(name) == 1 and name.isascii() and name.isalpha()


def _letters(name: str, text: str) -> list[int]:
    """Where a letter is an answer and not an English word."""
    capital = name.upper()
    here = rf"{capital}(?! [a-z])" if name in "ai" else rf"(?:{capital}|{name}$)"
    places = re.finditer(rf"(?<![^\W_]){here}(?![^\W_])", text)
    return [place.start() for place in places]


def _words(name: str, text: str, hyphens: bool) -> list[int]:
    """Where a name starts in a text without a letter, a digit or a hyphen on either side."""
    inner = "-" if hyphens else ""
    places, start = [], text.find(name)
    while start >= 0:
        end = start + len(name)
        around = text[max(start - 1, 0) : start] + text[end : end + 1]
        if not any(character.isalnum() or character in inner for character in around):
            places.append(start)
        start = text.find(name, start + 1)
    return places
