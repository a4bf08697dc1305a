"""Raw answers that are kept in a file, so that no model is asked the same thing twice."""

import hashlib
import json
import logging
import math
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from metro_fast.errors import MetroFastError
from metro_fast.scoring.answer_file import AnswerFile

__all__ = ["AnswerStore", "Ids"]

Ids = tuple[int, ...]
"""Token ids."""

_logger = logging.getLogger(__name__)
_KEY_BYTES = 16


class AnswerStore:
    """A file of the raw answers of models, which several processes may use at once.

    It keeps the log-likelihood of each target after a context, before any normalization, and the
    text that a model wrote after a context. Protocols that give the same token ids share them.

    A key is SHA-256 of the model's fingerprint and of the ids, so that it has a fixed size instead
    of that of the context (4 KB for 512 tokens), and the file does not hold the prompts. The first
    16 bytes are kept: among 10^9 answers two have the same key with a probability of 10^-21. A
    value carries a checksum. A damaged one is never returned: it counts as missing, with a logged
    warning, and is replaced by the next answer.

    The file is a database of SQLite, and all answers of a call are added or none of them: a process
    that is killed in the middle of it leaves the file as it was.

    Args:
        path: The file; it and its folder are made when absent. SQLite's locks need a file system
            that has them, which some network drives lack.

    Attributes:
        path: The file.
        hits: How many answers that were looked up were there.
        misses: How many were not.

    Raises:
        FormatError: If the file is something else, is damaged, or was written by a newer version.
        OSError: If the file cannot be opened or written.

    Example:
        >>> with AnswerStore("answers.db") as store:
        ...     store.add_scores("ab" * 32, {(5, 6): {(7,): -1.25}})
        ...     print(store.scores("ab" * 32, {(5, 6): [(7,), (8,)]}), store)
        {(5, 6): {(7,): -1.25}} <AnswerStore answers.db; 1 hit, 1 miss>
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.hits = self.misses = 0
        self._damaged: set[bytes] = set()
        self._file = AnswerFile(self.path)

    def __len__(self) -> int:
        """Number of answers."""
        return len(self._file)

    def __bool__(self) -> bool:
        """True, also for a store without any answer."""
        return True

    def __repr__(self) -> str:
        hits = f"{self.hits:,} hit{'' if self.hits == 1 else 's'}"
        misses = f"{self.misses:,} miss{'' if self.misses == 1 else 'es'}"
        closed = ", closed" if self._file.closed else ""
        return f"<AnswerStore {self.path}{closed}; {hits}, {misses}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def scores(
        self, model: str, wanted: Mapping[Ids, Iterable[Ids]]
    ) -> dict[Ids, dict[Ids, float]]:
        """Look up log-likelihoods.

        Args:
            model: `model_fingerprint` of the model.
            wanted: The targets of each context.

        Returns:
            Sums in nats of those targets that the store has, the same bits that were added.
        """
        keys = {
            key: (context, target)
            for context, targets in wanted.items()
            for target, key in _score_keys(model, context, targets).items()
        }
        whole, damaged = self._file.get(list(keys))
        found: dict[Ids, dict[Ids, float]] = {}
        for key, data in whole.items():
            value = struct.unpack("<d", data)[0] if len(data) == 8 else math.nan
            if math.isnan(value):
                damaged.add(key)
                continue
            context, target = keys[key]
            found.setdefault(context, {})[target] = value
        self._note(len(keys), sum(map(len, found.values())), damaged)
        return found

    def add_scores(self, model: str, sums: Mapping[Ids, Mapping[Ids, float]]) -> None:
        """Add log-likelihoods, all or none; those that are there already stay.

        Args:
            model: `model_fingerprint` of the model.
            sums: The sum in nats of each target of each context.

        Raises:
            MetroFastError: If one is NaN.
            OSError: If they cannot be written.
        """
        rows = {}
        for context, values in sums.items():
            for target, key in _score_keys(model, context, values).items():
                if math.isnan(values[target]):
                    raise MetroFastError(
                        f"the score of {target} after {context} is NaN; check the model's weights"
                    )
                rows[key] = struct.pack("<d", values[target])
        self._add(rows)

    def texts(
        self, model: str, contexts: Iterable[Ids], settings: Mapping[str, Any]
    ) -> dict[Ids, str]:
        """Look up texts that a model wrote.

        Args:
            model: `model_fingerprint` of the model.
            contexts: The contexts.
            settings: JSON values of everything else that a text depends on.

        Returns:
            The texts of those contexts for which the store has one.
        """
        keys = {key: context for context, key in _text_keys(model, contexts, settings).items()}
        whole, damaged = self._file.get(list(keys))
        found = {}
        for key, data in whole.items():
            try:
                found[keys[key]] = data.decode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                damaged.add(key)
        self._note(len(keys), len(found), damaged)
        return found

    def add_texts(self, model: str, texts: Mapping[Ids, str], settings: Mapping[str, Any]) -> None:
        """Add texts that a model wrote, all or none; those that are there already stay.

        Args:
            model: `model_fingerprint` of the model.
            texts: The text after each context.
            settings: As for `texts`.

        Raises:
            OSError: If they cannot be written.
        """
        keys = _text_keys(model, texts, settings)
        self._add({key: texts[c].encode("utf-8", "surrogatepass") for c, key in keys.items()})

    def _add(self, rows: Mapping[bytes, bytes]) -> None:
        self._file.add(rows, self._damaged & rows.keys())
        self._damaged -= rows.keys()

    def _note(self, asked: int, found: int, damaged: set[bytes]) -> None:
        self.hits += found
        self.misses += asked - found
        self._damaged |= damaged
        if damaged:
            _logger.warning(
                "%s: %d answers are damaged, among them %s; they are computed again",
                self.path, len(damaged), min(damaged).hex(),
            )  # fmt: skip


def _score_keys(model: str, context: Ids, targets: Iterable[Ids]) -> dict[Ids, bytes]:
    """The key of each target."""
    start = hashlib.sha256(b"score" + bytes.fromhex(model))
    # The length, so that a token cannot move from the context to the target.
    start.update(len(context).to_bytes(8, "little") + _bytes(context))
    return {target: _key(start, target) for target in targets}


def _text_keys(
    model: str, contexts: Iterable[Ids], settings: Mapping[str, Any]
) -> dict[Ids, bytes]:
    """The key of each context."""
    text = json.dumps(settings, sort_keys=True).encode()
    start = hashlib.sha256(b"text." + bytes.fromhex(model) + hashlib.sha256(text).digest())
    return {context: _key(start, context) for context in contexts}


def _key(start: Any, ids: Ids) -> bytes:
    digest = start.copy()
    digest.update(_bytes(ids))
    found: bytes = digest.digest()
    return found[:_KEY_BYTES]


def _bytes(ids: Ids) -> bytes:
    return np.array(ids, dtype="<i8").tobytes()
