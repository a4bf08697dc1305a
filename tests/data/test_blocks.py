"""Block modes, windows of long items, segments, and the order: equal to their references."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexed_files import write_fairseq, write_megatron
from metro_fast import MetroFastError
from metro_fast.data import DataCollatorForSpanCorruption, TokenCorpus, write_corpus
from metro_fast.testing.blocks import Item, crop, cut_blocks, number_segments
from metro_fast.testing.shuffled import shuffled
from metro_fast.testing.strategies import counters

MODES = ["none", "complete", "complete_doc", "eos", "pack"]


def write(folder, layout, sizes, ends):
    """Write 0, 1, 2, ... as items of the given sizes; returns their description."""
    starts = np.cumsum([0, *sizes])
    items = [list(range(start, start + size)) for start, size in zip(starts, sizes, strict=False)]
    if layout == "datatrove":
        write_corpus(folder, items)
        return [Item(size) for size in sizes]
    if layout == "fairseq":
        write_fairseq(folder / "a", items)
        last = len(sizes) - 1
        return [Item(size, size == 1 or i == last, size == 1) for i, size in enumerate(sizes)]
    table = [0, *(i + 1 for i, end in enumerate(ends[: len(sizes) - 1]) if end), len(sizes)]
    write_megatron(folder / "a", items, table)
    return [Item(size, i + 1 in table) for i, size in enumerate(sizes)]


@given(
    layout=st.sampled_from(["datatrove", "megatron", "fairseq"]),
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=60).filter(sum),
    ends=st.lists(st.booleans(), min_size=60, max_size=60),
    mode=st.sampled_from(MODES),
    block_size=st.integers(1, 14),
    seed=counters,
    epoch=st.integers(0, 2**58),
    shuffle=st.booleans(),
)
def test_equals_the_references(
    tmp_path_factory, layout, sizes, ends, mode, block_size, seed, epoch, shuffle
):
    folder = tmp_path_factory.mktemp("blocks")
    items = write(folder, layout, sizes, ends)
    expected = cut_blocks(items, mode, block_size)
    options = {"blocks": mode, "shuffle": shuffle, "seed": seed, "segment_ids": True}
    if not expected:
        with pytest.raises(MetroFastError, match="which give no block"):
            TokenCorpus(folder, block_size=block_size, **options)
        return
    corpus = TokenCorpus(folder, block_size=block_size, **options)
    assert len(corpus) == len(expected)
    assert corpus.num_documents == sum(item.closes for item in items)
    corpus.set_epoch(epoch)
    epoch = corpus.epoch  # 0 if neither the order nor the windows depend on it
    for index in range(len(corpus)):
        block = shuffled(index, len(corpus), seed=seed, epoch=epoch) if shuffle else index
        start, end = crop(expected[block], block_size, seed=seed, epoch=epoch, sample_id=block)
        item = corpus[index]
        assert item["sample_id"] == block
        assert item["input_ids"].tolist() == list(range(start, end))
        assert item["segment_ids"].tolist() == number_segments(items, start, end)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", ["datatrove", "megatron", "fairseq"])
def test_many_blocks_equal_the_reference(tmp_path, layout, mode):
    """Cutting restarts at every 16th block and gives the same blocks, inside long items too."""
    rng = np.random.default_rng(1)
    sizes = (rng.integers(0, 12, 500) * rng.choice([1, 30], 500, p=[0.97, 0.03])).tolist()
    items = write(tmp_path, layout, sizes, (rng.random(500) < 0.3).tolist())
    corpus = TokenCorpus(tmp_path, block_size=9, blocks=mode, seed=2)
    expected = [
        crop(block, 9, seed=2, epoch=0, sample_id=number)
        for number, block in enumerate(cut_blocks(items, mode, 9))
    ]
    assert len(corpus) == len(expected) > 200
    _, starts, ends, _ = corpus._locate(range(len(corpus)))
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        # Sentences of 3, 2, separator, 2, 2, separator, 1 (also a separator) and 9 tokens.
        ("complete", [(0, 5), (5, 10), (10, 12), (12, 21)]),
        ("complete_doc", [(0, 5), (6, 10), (12, 21)]),
        ("eos", [(0, 3), (3, 5), (5, 6), (6, 8), (8, 10), (10, 11), (11, 12), (12, 21)]),
        ("pack", [(0, 5), (5, 10), (10, 12), (12, 17), (17, 21)]),
    ],
)
def test_modes_by_hand(tmp_path, mode, expected):
    items = write(tmp_path, "fairseq", [3, 2, 1, 2, 2, 1, 1, 9], [])
    assert cut_blocks(items, mode, 5) == expected
    assert len(TokenCorpus(tmp_path, block_size=5, blocks=mode)) == len(expected)


def test_fairseq_drops_documents_of_one_token(tmp_path):
    write_megatron(tmp_path / "a", [[1], [2, 3], [4]], [0, 1, 2, 3])
    corpus = TokenCorpus(tmp_path, block_size=5, blocks="complete_doc")
    assert [item["input_ids"].tolist() for item in corpus.__getitems__([0])] == [[2, 3]]
    assert len(corpus) == 1


def test_documents_do_not_cross_files_in_complete_doc(tmp_path):
    write_fairseq(tmp_path / "a", [[1, 2]])
    write_fairseq(tmp_path / "b", [[3, 4]])
    corpus = TokenCorpus(tmp_path, block_size=9, blocks="complete_doc")
    assert [corpus[i]["input_ids"].tolist() for i in range(2)] == [[1, 2], [3, 4]]
    assert TokenCorpus(tmp_path, block_size=9, segment_ids=True)[0]["segment_ids"].tolist() == [
        *(1, 1, 2, 2)
    ]


def test_windows_reach_both_ends_and_every_offset_equally_often(tmp_path):
    write_corpus(tmp_path, [list(range(14))])
    corpus = TokenCorpus(tmp_path, block_size=5, blocks="eos", seed=3)
    counts = np.zeros(10, int)
    for epoch in range(2000):
        corpus.set_epoch(epoch)
        ids = corpus[0]["input_ids"]
        assert ids.tolist() == list(range(ids[0], ids[0] + 5))
        counts[ids[0]] += 1
    # 9 degrees of freedom: 27.9 is the quantile .999.
    assert ((counts - 200) ** 2 / 200).sum() < 27.9, counts


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64, 65, 257, 1000])
def test_every_epoch_reads_every_block_once_in_an_order_of_its_own(tmp_path, count):
    write_corpus(tmp_path, [list(range(count))])
    corpus = TokenCorpus(tmp_path, block_size=1, shuffle=True, seed=5)
    collator = DataCollatorForSpanCorruption(sentinel_first=9999, eos_token_id=1, pad_token_id=0)
    orders = []
    for epoch in range(3):
        corpus.set_epoch(epoch)
        blocks, _, _, positions = corpus._locate(range(count))
        items = corpus.__getitems__(range(count))
        assert [item["input_ids"].tolist() for item in items] == blocks[:, None].tolist()
        assert positions.tolist() == list(range(epoch * count, (epoch + 1) * count))
        assert sorted(blocks) == list(range(count))
        orders.append(blocks.tolist())
    if count > 50:
        assert len({tuple(order) for order in orders}) == 3
        assert sum(a == b for a, b in zip(*orders[:2], strict=True)) < 10
    joined = TokenCorpus(tmp_path, block_size=1, shuffle=True, seed=5, collator=collator)
    joined.set_epoch(2)
    assert joined._locate(range(count))[0].tolist() == orders[2]


def test_places_of_a_block_are_uniform_over_epochs(tmp_path):
    write_corpus(tmp_path, [list(range(13))])
    corpus = TokenCorpus(tmp_path, block_size=1, shuffle=True)
    counts = np.zeros((13, 13))
    for epoch in range(1300):
        corpus.set_epoch(epoch)
        counts[np.arange(13), corpus._locate(range(13))[0]] += 1
    # Row and column sums are fixed: 144 degrees of freedom, whose quantile .999 is 200.5.
    assert ((counts - 100) ** 2 / 100).sum() < 200.5 * 13 / 12


def test_a_seed_or_an_epoch_that_is_too_large_is_named(tmp_path):
    write_corpus(tmp_path, [[1, 2, 3]])
    with pytest.raises(MetroFastError, match="seed is -1"):
        TokenCorpus(tmp_path, block_size=1, seed=-1)
    corpus = TokenCorpus(tmp_path, block_size=1, shuffle=True)
    corpus.set_epoch(2**62)
    with pytest.raises(MetroFastError, match=r"epoch is 4611686018427387904, expected less than"):
        corpus[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": "whole"}, 'blocks is "whole", expected none, complete, complete_doc, eos or'),
        ({"blocks": "pack", "drop_last": True}, "drop_last is True and blocks is"),
        (
            {
                "segment_ids": True,
                "collator": DataCollatorForSpanCorruption(
                    sentinel_first=99, eos_token_id=1, pad_token_id=0
                ),
            },
            "segment_ids is True and there is a collator",
        ),
        ({"blocks": "complete_doc"}, "which give no block"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    write_corpus(tmp_path, [[1], [2]])
    with pytest.raises(MetroFastError, match=message):
        TokenCorpus(tmp_path, block_size=5, **options)


def test_torch_is_imported_only_where_an_epoch_is_needed(tmp_path):
    import subprocess

    write_corpus(tmp_path, [[1, 2, 3], [4]])
    code = (
        "import sys\nfrom metro_fast.data import CorpusLoader, TokenCorpus\n"
        f"TokenCorpus({str(tmp_path)!r}, block_size=3, blocks='pack', segment_ids=True)[0]\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
