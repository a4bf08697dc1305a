"""Tables of word starts: against the places of tokens in texts, and in batches of whole words."""

import pickle
import re

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from metro_fast import MetroFastError
from metro_fast.data import DataCollatorForMetro, mask_vocabulary, train_tokenizer, word_starts
from metro_fast.ops import Masking, Vocabulary

TEXT = "unhappily the happiest readers reread unread books, and the unreadable ones unhappily too"
SPECIAL = ["<pad>", "</s>", "<unk>", "<mask>"]


def sentence_piece():
    return train_tokenizer([TEXT] * 3, vocab_size=60, num_sentinels=4)


def unigram():
    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=50, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    inner.train_from_iterator([TEXT] * 3, trainer)
    return wrapped(inner)


def byte_level():
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=SPECIAL, show_progress=False)
    inner.train_from_iterator([TEXT] * 3, trainer)
    return wrapped(inner)


def word_piece():
    inner = Tokenizer(models.WordPiece(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=60, special_tokens=SPECIAL, show_progress=False)
    inner.train_from_iterator([TEXT] * 3, trainer)
    return wrapped(inner)


def wrapped(inner):
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


KINDS = [sentence_piece, unigram, byte_level, word_piece]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_tables_agree_with_the_places_of_tokens(make):
    tokenizer = make()
    table = word_starts(tokenizer)
    assert (table.dtype, len(table)) == (np.bool_, len(tokenizer))
    assert table[tokenizer.all_special_ids].all()
    encoded = tokenizer(TEXT, return_offsets_mapping=True, add_special_tokens=False)
    # BERT makes a word of its own of a comma; with the others it belongs to the word before it.
    boundary = r"\b\w+|[^\w\s]" if make is word_piece else r"\S+"
    expected = {match.start() for match in re.finditer(boundary, TEXT)}
    reached = set()
    for token, (start, end) in zip(encoded.input_ids, encoded.offset_mapping, strict=True):
        start += len(TEXT[start:end]) - len(TEXT[start:end].lstrip())
        begins = start in expected and start not in reached
        reached.add(start)
        assert table[token] == begins, (tokenizer.convert_ids_to_tokens(token), start)
    assert len(encoded.input_ids) > len(expected) + 2  # some words have several tokens


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_collators_mask_whole_words(make):
    tokenizer = make()
    ids = tokenizer(TEXT, add_special_tokens=False).input_ids
    table = word_starts(tokenizer)
    words = np.cumsum([table[token] or place == 0 for place, token in enumerate(ids)])
    masking = Masking(mask_replace_prob=1.0, random_replace_prob=0.0)
    collator = DataCollatorForMetro(
        tokenizer, masking=masking, mlm_probability=0.3, whole_words=True
    )
    for same in (collator, pickle.loads(pickle.dumps(collator))):
        batch = same([{"input_ids": ids, "sample_id": i} for i in range(50)])
        masked = (batch["input_ids"] != batch["labels"]).numpy()
        assert masked.sum() == batch["num_masked"]
        number = words[-1]
        for row in masked:
            drawn = set(words[row])
            assert row.tolist() == [word in drawn for word in words]
            assert int(0.3 * number) <= len(drawn) <= int(0.3 * number) + 1
        assert masked.any(0).all()


def test_a_vocabulary_gets_the_table_of_the_tokenizer():
    tokenizer = word_piece()
    table = word_starts(tokenizer)
    assert (mask_vocabulary(tokenizer, whole_words=True).word_starts == table).all()
    assert mask_vocabulary(tokenizer).word_starts is None
    own = Vocabulary(mask_token_id=3, vocab_size=len(tokenizer))
    given = DataCollatorForMetro(tokenizer, vocabulary=own, whole_words=True).vocabulary
    assert (given.word_starts == table).all()
    other = np.ones(len(tokenizer), bool)
    own = Vocabulary(mask_token_id=3, vocab_size=len(tokenizer), word_starts=other)
    kept = DataCollatorForMetro(tokenizer, vocabulary=own, whole_words=True).vocabulary
    assert kept.word_starts is own.word_starts


class Fake:
    """A tokenizer of other tokens."""

    def __init__(self, *tokens):
        self.tokens, self.all_special_ids, self.added_tokens_decoder = tokens, (0,), {}

    def get_vocab(self):
        return {token: index for index, token in enumerate(self.tokens)}


def test_rare_tokens_do_not_decide_the_kind():
    # BERT's vocabulary holds the letter that marks words elsewhere; the ids have a gap.
    bert = Fake("[PAD]", "▁", "read", "##er", "##s", "Ġ", "un")
    assert word_starts(bert).tolist() == [True, True, True, False, False, True, True]
    fake = Fake("<pad>", "▁read", "er", "▁un")
    fake.added_tokens_decoder = {5: "added by hand"}
    assert word_starts(fake).tolist() == [True, True, False, True, True, True]


@pytest.mark.parametrize(
    "tokens", [("<pad>", "a", "b"), ("<pad>", "read", "er</w>", "s</w>", "##")]
)
def test_tokenizers_that_do_not_mark_starts_are_refused(tokens):
    with pytest.raises(MetroFastError, match="give Vocabulary\\(word_starts="):
        word_starts(Fake(*tokens))


def test_whole_words_need_a_tokenizer_and_single_tokens():
    own = {"mask_token_id": 3, "vocab_size": 90, "pad_token_id": 0}
    with pytest.raises(MetroFastError, match="whole_words=True needs a tokenizer"):
        DataCollatorForMetro(**own, whole_words=True)
    with pytest.raises(MetroFastError, match="mask_span_length and word_starts are both given"):
        DataCollatorForMetro(word_piece(), masking=Masking(mask_span_length=3), whole_words=True)
