"""Refusals when an expert is added, so that no use fails for it."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from metro_fast import FormatError, MetroFastError

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from interrupted_pools import Case, base, equal, weights
from metro_fast.experts import ExpertPool, compress
from strangers import with_other_config

HEAD = "base_model.model.1.weight"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("experts"))


def test_a_head_that_is_ternary_in_one_expert_and_whole_in_the_other(case: Case) -> None:
    whole = case.experts["b"]
    assert HEAD in whole.dense
    ternary = {n: t.numpy() for n, t in whole.state_dict().items()}
    made = compress(ternary, kind="other", density=1.0)
    other = with_other_config(made, whole.config)
    assert HEAD in {tensor.name for tensor in other.manifest.tensors}
    for first, second, words in ((whole, other, "is ternary in"), (other, whole, "is whole in")):
        pool = ExpertPool(base())
        pool.add("first", first)
        before = weights(pool.model)
        with pytest.raises(MetroFastError, match=rf"{words} the expert and .* in the pool's first"):
            pool.add("second", second)
        assert pool.names == ("first",)
        assert equal(weights(pool.model), before)


def test_shapes_are_compared_before_anything_is_decoded(case: Case) -> None:
    """A file of some kilobytes says that it holds 2^22 zeros; the pool decodes none of them."""
    small = case.experts["b"]
    zeros = {n: t.numpy() for n, t in small.state_dict().items()}
    name = "base_model.model.0.lora_A.weight"
    zeros[name] = np.zeros((1 << 18, 16), np.float32)
    zeros[name][0, 0] = 1.0
    made = compress(zeros, kind="lora", density=1.0)
    large = with_other_config(made, small.config)
    del zeros
    assert large.nbytes < 100_000
    pool = case.of_one()
    tracemalloc.start()
    try:
        with pytest.raises(MetroFastError, match=r"has shape \(262144, 16\)"):
            pool.add("large", large)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6  # numpy's arrays are traced: 8 MB if it were decoded


def test_a_file_that_changed_after_the_pool_dropped_it_is_not_read_as_the_old(
    case: Case, tmp_path: Path
) -> None:
    pool = ExpertPool(base(), max_bytes=case.limit)
    folders = {name: case.experts[name].save(tmp_path / name).parent for name in "abc"}
    for name, folder in folders.items():
        pool.add(name, folder)
    for name in ("b", "c"):  # now a is dropped
        pool.swap(name)
    other = case.experts["d"].save(tmp_path / "d")
    other.replace(folders["a"] / other.name)
    with pytest.raises(FormatError, match="has changed since 'a' was added from it"):
        pool.swap("a")
    assert pool.resident == "c"
    assert equal(weights(pool.model), case.wanted["c"])
    pool.remove("a")
    pool.add("a", folders["a"])
    with pool.use("a") as model:
        assert equal(weights(model), case.wanted["d"])


HOSTILE = [None, -1, 10**400, "x" * 5000, [[]], {"(": 1}, {"0": "y"}]


def test_hostile_configurations_get_named_errors(case: Case) -> None:
    """Every field with values of every type: a second expert, after which the pool is as before."""
    expert = case.experts["b"]
    fields = json.loads(expert.config)
    pool = case.of_one()
    refused = longest = 0
    for key in [*fields, "a_later_field"]:
        for value in HOSTILE:
            other = with_other_config(expert, json.dumps(fields | {key: value}).encode())
            try:
                pool.add("b", other)
            except MetroFastError as error:
                refused += 1
                longest = max(longest, len(str(error)))
            else:
                pool.swap("b")
                pool.swap("a")
                pool.remove("b")
    assert refused > 60
    assert longest < 1000
    assert case.faults(pool) == []


def test_names_and_paths_of_other_types_are_named(case: Case) -> None:
    pool = case.of_one()
    with pytest.raises(TypeError, match="name is a list, expected a string"):
        pool.add([], case.experts["b"])
    with pytest.raises(MetroFastError, match=r"the pool has no expert \[\], only 'a'"):
        pool.swap([])
    assert pool.names == ("a",)
