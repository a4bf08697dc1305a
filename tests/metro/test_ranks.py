"""The same run on 1 and on 2 ranks: every row counts once an epoch, whatever their number."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from metro_cases import LENGTHS
from rank_cases import CASES, epochs_rank, loaded_rows, run, steady_rank
from warm_processes import run_ranks

Results = dict[str, Any]


def on_two_ranks(function: Callable[..., None], folder: Path) -> tuple[Results, Results]:
    run_ranks(2, function, folder, folder=folder, limit=250)  # a busy machine is slow at it
    first, second = (torch.load(folder / f"results{rank}.pt") for rank in range(2))
    return first, second


@pytest.fixture(scope="module")
def epochs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results]:
    """The results of every case on each of two gloo ranks."""
    return on_two_ranks(epochs_rank, tmp_path_factory.mktemp("epochs"))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results]:
    """The other results of each of two gloo ranks."""
    return on_two_ranks(steady_rank, tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_three_epochs_are_the_same_on_one_rank_and_on_two(
    name: str, epochs: tuple[Results, Results], tmp_path: Path
) -> None:
    """Slow: the fixture starts two ranks, which import torch."""
    alone = run(tmp_path, CASES[name], 1)
    first, second = (rank[name] for rank in epochs)
    assert len(first["losses"]) == len(alone["losses"]) > 0
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-6)
    assert first["tokens"] == alone["tokens"]
    assert first["flops"][-1] > 0
    assert first["seen"] == alone["seen"]
    for step, both in enumerate(zip(first["counted"], second["counted"], strict=True)):
        assert sorted(both[0] + both[1]) == sorted(alone["counted"][step]), step
    for tensor, own in zip(alone["weights"].values(), first["weights"].values(), strict=True):
        assert torch.allclose(tensor, own, atol=1e-6)
    assert all(
        torch.equal(a, b)
        for a, b in zip(first["weights"].values(), second["weights"].values(), strict=True)
    )
    rows = CASES[name]["rows"]
    whole = rows - rows % 4 if "dropped" in name else rows
    counted = [row for step in alone["counted"] for row in step]
    each = [counted[i : i + whole] for i in range(0, len(counted), whole)]
    assert len(each) == 3
    for epoch in each:  # the dropped rows are the last of the order, here the sequence of rows
        assert sorted(epoch) == list(range(whole))
    if "span" not in name:
        assert alone["tokens"][-1] == 3 * sum((LENGTHS * 2)[:whole])


@pytest.mark.slow
def test_a_corpus_loader_takes_the_share_of_its_rank(
    ranks: tuple[Results, Results], tmp_path: Path
) -> None:
    """Slow: the fixture starts two ranks. 9 blocks in steps of 4: the last block is dropped."""
    both = [rank["CorpusLoader"] for rank in ranks]
    together = [a + b for a, b in zip(*both, strict=True)]
    assert together == loaded_rows(tmp_path)
    assert all(len(step) == 2 for steps in both for step in steps)
    for epoch in (together[0:2], together[2:4], together[4:6]):
        assert len({row for step in epoch for row in step}) == 8


@pytest.mark.slow
def test_evaluations_and_checkpoints_change_nothing_on_two_ranks(
    ranks: tuple[Results, Results],
) -> None:
    """Slow: the fixture starts two ranks. Log lines that span a save are equal bit by bit."""
    for rank in ranks:
        assert rank["plain"][0] == rank["evaluated"][0]
        pairs = zip(rank["plain"][1].values(), rank["evaluated"][1].values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_options_of_ddp_reach_it(ranks: tuple[Results, Results]) -> None:
    """Slow: the fixture starts two ranks."""
    for rank in ranks:
        assert rank["ddp"] == {
            "backend": "gloo",
            "timeout": "ddp_timeout is 321, but transformers does no",
            "find_unused_parameters": True,
            "bucket_bytes_cap": 7 * 1024 * 1024,
            "broadcast_buffers": False,
            "static_graph": True,
        }
