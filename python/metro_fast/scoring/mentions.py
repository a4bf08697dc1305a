"""Where a text mentions a label: as whole words, or as a letter that is an answer."""

import functools
import re
import unicodedata

__all__ = ["is_negated", "mentions", "squeezed"]

_EDGES = " \t\r\n.,:;()[]\"'`<>"
_DASHES = r"\-\u2010-\u2015\u2212"  # for a class of a regular expression
_LETTER, _WORD = r"[^\W\d_]", r"[^\W_]"

# Words of a label may be joined otherwise in a text: "Cause Effect", "cause_effect".
_PARTS = re.compile(
    rf"(?P<glue>(?<={_LETTER})\s*[_{_DASHES}]\s*(?={_LETTER}))|(?P<gap>(?<={_LETTER})\s(?={_LETTER}))"
    rf"|(?P<word>{_WORD}+)|\s*(?P<mark>[^\w\s]|_)\s*|(?P<space>\s)"
)

# Only these words may be between the negation and the label.
_BETWEEN = (
    "a|an|the|any|be|very|really|quite|so|too|that|at|all|necessarily|option|choice|answer|label"
)
_NEGATION = re.compile(
    rf"(?:(?<!{_WORD})(?:not|never|no|nor|neither|non|cannot)|n['\u2019]t)[*_]*"
    rf"(?:\s(?:{_BETWEEN}))*\s[\"'`\u2018\u201c(\[*_]*$",
    re.IGNORECASE,
)


def squeezed(text: str) -> str:
    """A text in NFKC, with every run of white space as one space, and clean ends.

    Its lower case has as many characters, so that a place in one is the same place in the other.
    """
    # The one character whose lower case is two characters.
    text = unicodedata.normalize("NFKC", text).replace("\u0130", "i\u0307")
    return " ".join(text.split()).strip(_EDGES)


def mentions(name: str, text: str) -> list[tuple[int, int]]:
    """Find a label in a text.

    Args:
        name: The label, as `squeezed` gives it, in lower case.
        text: The text, as `squeezed` gives it.

    Returns:
        Start and end of each mention, in order, negated ones as well.
    """
    if len(name) == 1 and name.isascii() and name.isalpha():
        return [place.span() for place in _letter(name).finditer(text)]
    return [place.span() for place in _words(name).finditer(text.lower())]


def is_negated(text: str, start: int) -> bool:
    """Whether a negation is directly before a place of a text, as in "not a"."""
    return _NEGATION.search(text[:start]) is not None


@functools.lru_cache(4096)
def _letter(name: str) -> re.Pattern[str]:
    """A letter that is an answer, and not an English word, an initial or a part of a word."""
    capital = name.upper()
    # "A truck" and "I think" are English, and "it is a" may be the start of more.
    english = "(?! [a-z])" if name in "ai" else ""
    here = [
        capital + english,
        rf"{capital}(?= (?:is|because|since|or)(?!{_WORD}))",
        *(rf"(?<=(?i:{cue}) ){capital}" for cue in ("option", "choice")),
        *(
            rf"(?<=(?i:{cue}) ){name}{english}"
            for cue in ("option", "choice", "answer is", "answer:")
        ),
        rf"(?<=\(){name}(?=\)|$)",
        rf"^{name}(?=[).:](?:\s|$))",
    ]
    if not english:
        here.append(f"{name}$")
    # Neither in "don't" and "I'm", nor in "B-cell" and "U.S.", nor in "word(s)".
    before = rf"(?<!{_WORD})(?<!{_WORD}[-'\u2019(])(?<!\b{_WORD}\.)"
    after = rf"(?!{_WORD})(?![-'\u2019]{_WORD})(?!\.{_WORD}(?!{_WORD}))"
    return re.compile(f"{before}(?:{'|'.join(here)}){after}")


@functools.lru_cache(4096)
def _words(name: str) -> re.Pattern[str]:
    """A label as whole words: part of no longer word, compound or number."""
    joined = rf"[_\s{_DASHES}]"
    parts: list[str] = []
    for part in _PARTS.finditer(name):
        if part["glue"]:
            parts.append(f"{joined}*")
        elif part["gap"]:
            parts.append(f"{joined}+")
        elif mark := part["mark"]:
            found = f"[{_DASHES}]" if re.match(f"[{_DASHES}]", mark) else re.escape(mark)
            # A sign at the start is part of its number: "5 - 3" does not mention -3.
            parts += [r"\s*", found, r"\s*" if parts else ""]
        else:
            parts.append(re.escape(part["word"]) if part["word"] else r"\s+")
    body = "".join(parts).removeprefix(r"\s*").removesuffix(r"\s*")
    before, after = rf"(?<!{_WORD})(?<!{_WORD}[-_\u2010])", rf"(?!{_WORD})(?![-_\u2010]{_WORD})"
    if name[0].isdigit():
        before += r"(?<!\d[.,])(?<![-\u2212])"
    if name[-1].isdigit():
        after += r"(?![.,]\d)"
    return re.compile(before + body + after)
