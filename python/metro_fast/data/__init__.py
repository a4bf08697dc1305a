"""From text to batches: corpora, collators, tokenizers.

Importing this package needs only numpy. Torch, transformers and datatrove are imported by the
functions that use them.
"""

from typing import TYPE_CHECKING, Any

from metro_fast.data.collate_metro import DataCollatorForMetro
from metro_fast.data.collate_spans import DataCollatorForSpanCorruption
from metro_fast.data.collate_ul2 import DataCollatorForUL2
from metro_fast.data.corpus import TokenCorpus
from metro_fast.data.epoch import EpochCell
from metro_fast.data.loader import CorpusLoader
from metro_fast.data.pipeline import PreparePipeline, finish_prepare, prepare_pipeline
from metro_fast.data.prepare import prepare
from metro_fast.data.sources import read_texts
from metro_fast.data.tokenizer import train_tokenizer
from metro_fast.data.vocabulary import mask_vocabulary, span_vocabulary
from metro_fast.data.words import word_starts
from metro_fast.data.write_corpus import write_corpus

if TYPE_CHECKING:
    from metro_fast.data.epoch_callback import EpochCallback

__all__ = [
    "CorpusLoader",
    "DataCollatorForMetro",
    "DataCollatorForSpanCorruption",
    "DataCollatorForUL2",
    "EpochCallback",
    "EpochCell",
    "PreparePipeline",
    "TokenCorpus",
    "finish_prepare",
    "mask_vocabulary",
    "prepare",
    "prepare_pipeline",
    "read_texts",
    "span_vocabulary",
    "train_tokenizer",
    "word_starts",
    "write_corpus",
]


def __getattr__(name: str) -> Any:
    """Import `EpochCallback` on first use, because its base class is in transformers."""
    if name == "EpochCallback":
        from metro_fast.data.epoch_callback import EpochCallback

        return EpochCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
