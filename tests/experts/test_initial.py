"""Initial values: one rule for what a residual is measured from, asked through public doors."""

import numpy as np
import pytest

from metro_fast import MetroFastError
from metro_fast.experts import compress, task_vector
from metro_fast.experts.plain.plain import plain_tensors

RNG = np.random.default_rng(2)


def matrix(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "initial", "constant"),
    [("m.ia3_l", "one", 1), ("prompt_embeddings", "zero", 0), ("m.lora_A.weight", "zero", 0)],
)
def test_the_role_gives_the_initial_value(name: str, initial: str, constant: int):
    state = {name: matrix(4, 32)}
    vector = task_vector(state)
    assert vector.residuals[name].initial == initial
    np.testing.assert_array_equal(vector.residuals[name].values, state[name] - constant)
    expert = compress(vector, density=0.25)
    assert not expert.manifest.needs_initial
    decoded = expert.arrays()[name]
    np.testing.assert_array_equal(decoded[expert.trits()[name] == 0], np.float32(constant))


def test_given_values_are_asked_for_by_one_rule():
    start, tuned = ({"a": matrix(3, 20), "b": matrix(3, 20)} for _ in range(2))
    vector = task_vector(tuned, kind="full", initial=start)
    expert = compress(vector, density=0.3)
    assert expert.manifest.needs_initial
    for decode in (
        lambda given: expert.raw(initial=given),
        lambda given: plain_tensors(vector, given),
    ):
        with pytest.raises(MetroFastError, match="is a residual: pass initial= with a and 1 more"):
            decode(None)
        with pytest.raises(MetroFastError, match=r"initial= with b and 1 more"):
            decode({"a": start["a"]})
        with pytest.raises(MetroFastError, match=r"a has shape \(3, 19\), expected \(3, 20\)"):
            decode({**start, "a": start["a"][:, 1:]})
        with pytest.raises(MetroFastError, match="not those that compress was given"):
            decode({**start, "a": start["a"] + 1})
        assert sorted(decode(start)) == ["a", "b"]
    np.testing.assert_allclose(plain_tensors(vector, start)["a"].data, tuned["a"], atol=1e-6)
