"""EpochCell: one number for every process that holds a copy."""

import copy
import pickle

import numpy as np
import pytest
from torch import multiprocessing

from metro_fast import MetroFastError
from metro_fast.data import EpochCell


def test_an_unset_cell_is_at_epoch_0():
    assert EpochCell().get() == 0


def test_set_is_seen_through_a_fork():
    cell = EpochCell()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=cell.set, args=(7,))
    process.start()
    process.join(30)
    assert (process.exitcode, cell.get()) == (0, 7)


@pytest.mark.slow  # A spawned process imports torch.
def test_set_is_seen_through_a_spawn():
    cell = EpochCell()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=cell.set, args=(2**62,))
    process.start()
    process.join(100)
    assert (process.exitcode, cell.get()) == (0, 2**62)


def test_a_plain_pickle_is_a_cell_of_its_own():
    cell = EpochCell()
    cell.set(4)
    for other in (pickle.loads(pickle.dumps(cell)), copy.deepcopy(cell)):
        assert other.get() == 4
        other.set(5)
        assert cell.get() == 4


def test_samples_that_return_are_noticed_until_the_epoch_is_set():
    cell = EpochCell()
    a, b = np.array([3, 1]), np.array([2, 0])
    assert [cell.came_round(ids) for ids in (a, b, a, b)] == [False, False, True, False]
    cell.set(0)
    assert not cell.came_round(a)


@pytest.mark.parametrize("value", [-1, 2**63])
def test_numbers_that_are_not_an_epoch_are_refused(value):
    with pytest.raises(MetroFastError, match="epoch is"):
        EpochCell().set(value)


def test_a_fraction_is_a_type_error():
    with pytest.raises(TypeError, match="epoch is a float"):
        EpochCell().set(1.5)
