"""The rows of a pretraining run, and the checks that they fit the tokenizer."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from metro_fast._pretrained import load_tokenizer
from metro_fast.data import TokenCorpus
from metro_fast.data.tokenizer_identity import check_corpus_tokenizer
from metro_fast.data.vocabulary import vocabulary_size
from metro_fast.errors import MetroFastError
from metro_fast.metro.held_out import RowSelection
from metro_fast.metro.pretrain_config import PretrainConfig

logger = logging.getLogger(__name__)

CHECKED_ROWS = 64
SCANNED_TOKENS = 1 << 28
_PIECE = 1 << 20


@dataclass(frozen=True)
class RunRows:
    """The rows of a run.

    Attributes:
        training: The rows to train on.
        evaluation: The rows to evaluate on, or None.
        collator: The collator of the training rows.
    """

    training: Any
    evaluation: Any
    collator: Any


def read_tokenizer(config: PretrainConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a run and compare it with the one that made each corpus.

    Raises:
        FileNotFoundError: If a folder does not exist.
        MetroFastError: If the tokenizer lacks an id, or is not the one that made a corpus.
        FormatError: If a file is damaged, or a corpus without a record of its tokenizer holds ids
            that this tokenizer does not have.
    """
    data = config.data
    corpora = {"data.corpus": data.corpus}
    if data.evaluation_corpus is not None:
        corpora["data.evaluation_corpus"] = data.evaluation_corpus
    for name, corpus in corpora.items():
        if not corpus.is_dir():
            raise FileNotFoundError(
                f"{name} is {corpus}, which does not exist: make it with `metro-fast prepare`"
            )
        TokenCorpus(corpus, block_size=1)  # refuses a folder of something else, such as texts
    folder = data.tokenizer or data.corpus / "tokenizer"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"tokenizer folder {folder} does not exist: give the right one as data.tokenizer"
        )
    tokenizer = load_tokenizer(folder)
    for name in ("pad_token_id", "eos_token_id"):
        if getattr(tokenizer, name) is None:
            raise MetroFastError(f"the tokenizer at {folder} has no {name}: set one and save it")
    if config.recipe.has_auxiliary and tokenizer.mask_token_id is None:
        logger.info("the tokenizer has no mask token; its first sentinel takes its place")
    for corpus in corpora.values():
        if not check_corpus_tokenizer(corpus, tokenizer):
            logger.warning("%s does not say which tokenizer made it; ids are checked alone", corpus)
            _scan(corpus, vocabulary_size(tokenizer))
    return tokenizer


def _scan(corpus: Path, vocab_size: int) -> None:
    """Look for ids outside the vocabulary, in all of a corpus or in pieces spread over it."""
    pieces = TokenCorpus(corpus, block_size=_PIECE, vocab_size=vocab_size)
    wanted = min(len(pieces), SCANNED_TOKENS // _PIECE)
    for index in range(wanted):
        pieces[index * len(pieces) // wanted]


def read_rows(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase) -> RunRows:
    """Open the corpus, and make the first batches of both parts.

    Each part has its own collator, since only one of them has epochs.

    Raises:
        FormatError: If a corpus is damaged, or holds ids that the tokenizer does not have.
        MetroFastError: If a corpus is too small, or the tokenizer lacks sentinels or a mask.
    """
    data = config.data
    training = _open(config, tokenizer, data.corpus)
    collator, evaluation = training.collator, None
    if data.evaluation_rows:
        evaluation = _open(config, tokenizer, data.evaluation_corpus or data.corpus)
        evaluation.collator.set_epoch(0)  # the same masks in every evaluation
        if data.evaluation_corpus is None:
            evaluation = RowSelection(evaluation, data.evaluation_rows, held_out=True)
            training = RowSelection(training, data.evaluation_rows, held_out=False)
        elif len(evaluation) > data.evaluation_rows:
            evaluation = RowSelection(evaluation, data.evaluation_rows, held_out=True)
    for rows in (training, evaluation):
        if rows is not None:
            # Finds an id outside the vocabulary, or too few sentinels, now and not after an hour.
            step = max(1, len(rows) // CHECKED_ROWS)
            rows.__getitems__(range(0, len(rows), step))
    return RunRows(training, evaluation, collator)


def _open(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase, corpus: Path) -> Any:
    return TokenCorpus(
        corpus,
        block_size=config.data.block_size,
        collator=config.recipe.collator(tokenizer, config.objective, config.training["seed"]),
        vocab_size=vocabulary_size(tokenizer),
    )
