"""Which tokenizer made a corpus: the record of `prepare`, and what counts as the same tokenizer."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from metro_fast.data import prepare, train_tokenizer, write_corpus
from metro_fast.data.tokenizer_identity import check_corpus_tokenizer, tokenizer_sha256
from metro_fast.errors import FormatError, MetroFastError

TEXT = "red green blue " * 50


@pytest.fixture
def tokenizer() -> Any:
    return train_tokenizer([TEXT], vocab_size=40, num_sentinels=4)


@pytest.fixture
def corpus(tokenizer: Any, tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return prepare(tmp_path / "text.txt", tmp_path / "corpus", tokenizer, progress=False)


def test_a_tokenizer_keeps_its_hash_through_files(tokenizer: Any, corpus: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(corpus / "tokenizer")
    assert tokenizer_sha256(loaded) == tokenizer_sha256(tokenizer)
    assert check_corpus_tokenizer(corpus, loaded)


def test_truncation_and_padding_are_not_part_of_it(tokenizer: Any) -> None:
    before = tokenizer_sha256(tokenizer)
    tokenizer(["red", "red green"], padding=True, truncation=True, max_length=2)
    assert tokenizer_sha256(tokenizer) == before


def test_added_tokens_may_be_more_but_not_fewer(tokenizer: Any, corpus: Path) -> None:
    more = AutoTokenizer.from_pretrained(corpus / "tokenizer")
    more.add_tokens(["[NLU]"])
    assert check_corpus_tokenizer(corpus, more)
    fewer = train_tokenizer([TEXT], vocab_size=39, num_sentinels=3)
    with pytest.raises(MetroFastError, match="made with another tokenizer"):
        check_corpus_tokenizer(corpus, fewer)


def test_the_same_ids_by_other_merges_are_another_tokenizer(tokenizer: Any, corpus: Path) -> None:
    """A normalizer changes how text is cut, though every id keeps its token."""
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(MetroFastError, match=r"sha256 .{12}\.\.\., and here .{12}\.\.\."):
        check_corpus_tokenizer(corpus, tokenizer)


def test_a_corpus_without_a_record_says_nothing(tokenizer: Any, tmp_path: Path) -> None:
    write_corpus(tmp_path / "bare", [[5, 6, 7]])
    assert not check_corpus_tokenizer(tmp_path / "bare", tokenizer)


def test_a_slow_tokenizer_cannot_be_compared(corpus: Path) -> None:
    from transformers import ByT5Tokenizer

    with pytest.raises(MetroFastError, match="a ByT5Tokenizer, which cannot be compared"):
        check_corpus_tokenizer(corpus, ByT5Tokenizer())


def test_a_damaged_record_is_a_format_error(tokenizer: Any, corpus: Path) -> None:
    (corpus / "prepare.json").write_text("{")
    with pytest.raises(FormatError, match=r"prepare\.json"):
        check_corpus_tokenizer(corpus, tokenizer)
