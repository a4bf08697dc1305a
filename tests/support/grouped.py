"""Tables of flat options as the keywords that `corrupt_spans` and `mask_tokens` take."""

from dataclasses import fields
from typing import Any

from metro_fast.ops import Masking, SpanCorruption, Vocabulary

HOMES = {"vocabulary": Vocabulary, "corruption": SpanCorruption, "masking": Masking}


def grouped(**options: Any) -> dict[str, Any]:
    """The options, with those that are fields of a settings class in a value of that class.

    `denoisers` stay a keyword.
    """
    keywords = dict(options)
    for home, kind in HOMES.items():
        names = options.keys() & {field.name for field in fields(kind)} - {"denoisers"}
        if names:
            keywords[home] = kind(**{name: keywords.pop(name) for name in names})
    return keywords
