"""A corpus whose files change while it is open, or before another process opens it."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from metro_fast.data import DataCollatorForSpanCorruption, TokenCorpus, write_corpus
from metro_fast.errors import FormatError


def texts(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(4, 500, 40) for _ in range(200)]


def collator() -> DataCollatorForSpanCorruption:
    return DataCollatorForSpanCorruption(
        sentinel_first=999, eos_token_id=1, pad_token_id=0, pad_to_multiple_of=64
    )


@pytest.mark.parametrize("blocks", ["none", "complete_doc", "pack"])
@pytest.mark.parametrize("suffix", [".ds", ".ds.index"])
@pytest.mark.parametrize("corrupts", [False, True])
def test_a_file_that_was_cut_off_is_an_error(
    tmp_path: Path, suffix: str, blocks: str, corrupts: bool
) -> None:
    write_corpus(tmp_path, texts())
    corpus = TokenCorpus(
        tmp_path, block_size=48, blocks=blocks, collator=collator() if corrupts else None
    )
    before = corpus.__getitems__([0, len(corpus) - 1])
    (path,) = (each for each in tmp_path.iterdir() if each.name.endswith(suffix))
    content = path.read_bytes()
    os.truncate(path, 0)
    corpus.set_epoch(1)
    with pytest.raises(FormatError, match=rf"{path.name} has 0 bytes, but had {len(content)}"):
        corpus.__getitems__([0, len(corpus) - 1])
    path.write_bytes(content)  # as it was
    corpus.set_epoch(2)
    assert len(corpus.__getitems__([0, len(corpus) - 1])) == len(before)


def test_a_corpus_that_was_removed_or_replaced_stays_open(tmp_path: Path) -> None:
    write_corpus(tmp_path, texts())
    corpus = TokenCorpus(tmp_path, block_size=48)
    before = corpus[7]["input_ids"].tolist()
    for path in tmp_path.iterdir():
        other = tmp_path.parent / f"other-{path.name}"
        other.write_bytes(b"short")
        other.replace(path)
    assert corpus[7]["input_ids"].tolist() == before
    for path in tmp_path.iterdir():
        path.unlink()
    assert corpus[7]["input_ids"].tolist() == before


def test_a_pickled_corpus_is_opened_as_the_same_one_only(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", texts())
    packed = pickle.dumps(TokenCorpus(tmp_path / "a", block_size=48, shuffle=True))
    same = pickle.loads(packed)
    assert same[3]["input_ids"].shape == (48,)
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    write_corpus(tmp_path / "a", texts(seed=1))  # as long as the first
    with pytest.raises(FormatError, match="a is not the corpus that was opened before"):
        pickle.loads(packed)


@pytest.mark.slow  # a spawned process imports torch
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_spawned_worker_refuses_a_rewritten_corpus(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", texts())
    corpus = TokenCorpus(tmp_path / "a", block_size=40)

    def batches() -> list[int]:
        loader = torch.utils.data.DataLoader(
            corpus, batch_size=4, num_workers=1, multiprocessing_context="spawn", timeout=60,
            collate_fn=list,
        )  # fmt: skip
        return [len(batch) for batch in loader]

    assert sum(batches()) == len(corpus)
    # A corpus that is made again gets new files, and the parent keeps its own.
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    write_corpus(tmp_path / "a", texts(seed=1))
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        batches()
