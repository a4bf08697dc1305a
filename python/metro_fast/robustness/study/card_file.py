"""`model_cards.json`: what the models of an evaluation's folder are."""

import json
from pathlib import Path

from metro_fast._atomic import write_atomically
from metro_fast._json import parse_json
from metro_fast._memory import read_small
from metro_fast._shown import quoted
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.robustness.study.card import ModelCard

__all__ = ["CARDS", "read_cards", "write_cards"]

CARDS = "model_cards.json"
CARDS_FORMAT = "metro_fast.model_cards/1"

Key = tuple[str, str]
"""A model's name and its hash."""


def read_cards(folder: Path) -> dict[Key, ModelCard]:
    """The cards of a folder by name and hash of the model; none, if it has no such file.

    Raises:
        FormatError: If the file is damaged, or of another version.
    """
    path = folder / CARDS
    if not path.exists():
        return {}
    record = parse_json(read_small(path), path)
    try:
        if record["format"] != CARDS_FORMAT:
            raise FormatError(
                f"{path} has the format {quoted(record['format'])}, expected "
                f"{quoted(CARDS_FORMAT)}: delete it, and evaluate again for new cards"
            )
        found = {}
        for row in record["models"]:
            card = ModelCard.from_record(row["card"])
            found[card.name, str(row["model_hash"])] = card
        return found
    except FormatError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, MetroFastError) as error:
        raise FormatError(
            f"{path} does not hold cards of models ({type(error).__name__}: {error}): correct it, "
            "or delete it, and evaluate again"
        ) from error


def write_cards(folder: Path, cards: dict[Key, ModelCard]) -> Path:
    """Add cards to those of a folder; a model's card replaces its earlier one.

    Args:
        folder: Folder of an evaluation, which this process owns.
        cards: By name and hash of the model.

    Returns:
        The file.

    Raises:
        FormatError: If the folder's file is damaged.
        OSError: If it cannot be written.
    """
    rows = [
        {"model_hash": model_hash, "card": card.to_record()}
        for (_, model_hash), card in (read_cards(folder) | cards).items()
    ]
    text = json.dumps({"format": CARDS_FORMAT, "models": rows}, indent=2, ensure_ascii=False)
    return write_atomically(folder / CARDS, text + "\n")
