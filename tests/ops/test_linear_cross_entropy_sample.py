"""The fused vocabulary head: losses and gradients of torch, and draws of the softmax."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from metro_fast import MetroFastError
from metro_fast.ops import head_gradient, head_tiles
from metro_fast.ops.torch import linear_cross_entropy_sample
from metro_fast.testing.linear_cross_entropy_sample import sweep_row
from metro_fast.testing.strategies import counters

OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": True},
    {"row_weights": True},
    {"label_smoothing": 0.1},
    {"softcap": 3.0},
    {"z_loss": 0.01},
    {"scale": 0.25},
    {
        "bias": True, "row_weights": True, "label_smoothing": 0.2, "softcap": 5.0, "z_loss": 0.1,
        "scale": 2.0,
    },
]  # fmt: skip
IDS = ["plain", "bias", "row_weights", "smoothing", "softcap", "z_loss", "scale", "all"]


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 4 rows and 256 tokens, so that few rows have many."""
    for module in (head_tiles, head_gradient):
        monkeypatch.setattr(module, "ROWS", 4)
        monkeypatch.setattr(module, "TILE", 256)


def inputs(rows, width, vocabulary, options, dtype=torch.float32):
    """Hidden states, weight, targets and keyword arguments; tensors of floats with gradients."""
    generator = torch.Generator().manual_seed(rows * vocabulary + width)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    given = dict(options)
    if "bias" in given:
        given["bias"] = normal(vocabulary).requires_grad_()
    if "row_weights" in given:
        given["row_weights"] = torch.rand(rows, generator=generator)
    hidden, weight = normal(rows, width), normal(vocabulary, width)
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), targets, given


def unfused(
    hidden, weight, targets, *, bias=None, row_weights=None, label_smoothing=0.0, softcap=None,
    z_loss=0.0, scale=1.0,
):  # fmt: skip
    """The same by torch and the definitions: all logits at once, and the targets as a matrix."""
    logits = functional.linear(hidden * scale, weight, bias)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    count = logits.shape[1]
    share = torch.full_like(logits, label_smoothing / (count - 1))
    share.scatter_(1, targets[:, None], 1 - label_smoothing)
    losses = -(share * logits.log_softmax(-1)).sum(-1) + z_loss * logits.logsumexp(-1) ** 2
    return losses if row_weights is None else losses * row_weights, logits


@pytest.mark.parametrize("options", OPTIONS, ids=IDS)
@pytest.mark.parametrize("shape", [(1, 3, 2), (9, 5, 300), (6, 4, 256), (13, 8, 1_000)], ids=str)
def test_losses_and_gradients_are_those_of_whole_logits(small_tiles, shape, options):
    hidden, weight, targets, given = inputs(*shape, options)
    found = linear_cross_entropy_sample(hidden, weight, targets, **given)
    expected, logits = unfused(hidden, weight, targets, **given)
    torch.testing.assert_close(found.loss, expected, rtol=1e-6, atol=2e-6)
    torch.testing.assert_close(found.logsumexp, logits.logsumexp(-1), rtol=1e-6, atol=1e-6)
    assert torch.equal(found.correct, logits.argmax(-1) == targets)
    assert found.sampled is None
    leaves = [hidden, weight, *([given["bias"]] if "bias" in given else [])]
    upstream = torch.linspace(-1, 2, len(targets)), torch.linspace(1, 0.5, len(targets))

    def gradients(loss, logsumexp):
        return torch.autograd.grad((loss * upstream[0] + logsumexp * upstream[1]).sum(), leaves)

    ours = gradients(found.loss, found.logsumexp)
    for one, other in zip(ours, gradients(expected, logits.logsumexp(-1)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=IDS)
def test_gradcheck(small_tiles, options):
    hidden, weight, targets, given = inputs(5, 2, 270, options, torch.float64)
    bias = given.pop("bias", None)
    if "row_weights" in given:
        given["row_weights"] = given["row_weights"].double()

    def run(hidden, weight, bias):
        found = linear_cross_entropy_sample(hidden, weight, targets, bias=bias, **given)
        return found.loss, found.logsumexp

    assert torch.autograd.gradcheck(run, (hidden, weight, bias))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_formats_sum_in_float32(dtype):
    hidden, weight, targets, _ = inputs(40, 16, 5_000, {}, dtype)
    found = linear_cross_entropy_sample(hidden, weight, targets)
    assert found.loss.dtype == torch.float32
    exact, _ = unfused(hidden.float(), weight.float(), targets)
    rounded, _ = unfused(hidden, weight, targets)
    # The logits are rounded to the format, as those of a linear layer are; the rest is not.
    assert (found.loss - exact).abs().max() < (rounded.float() - exact).abs().max()
    found.loss.sum().backward()
    expected = torch.autograd.grad(exact.sum(), [hidden, weight])
    for one, other in zip((hidden.grad, weight.grad), expected, strict=True):
        assert one.dtype == dtype
        assert (one - other).abs().max() < 0.02 * other.abs().max()


@given(
    data=st.data(),
    vocabulary=st.sampled_from([2, 100, 256, 257, 600, 1_100]),
    temperature=st.sampled_from([1.0, 0.5, 3.0]),
    seed=counters,
    epoch=counters,
)
def test_draws_are_those_of_the_reference(data, vocabulary, temperature, seed, epoch):
    rows = data.draw(st.integers(1, 5))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    logits = random.integers(-9, 9, (rows, vocabulary)).astype(np.float32)
    # Whole blocks that are never drawn from, as are those of padding.
    logits[:, random.random(vocabulary) < 0.1] = -1e9
    targets = torch.from_numpy(random.integers(1, vocabulary, rows))
    forbidden = data.draw(st.none() | st.lists(st.integers(1, vocabulary - 1), max_size=9))
    exclude = data.draw(st.booleans())
    ids = torch.tensor(data.draw(st.lists(counters, min_size=rows, max_size=rows)))
    places = torch.arange(rows) * 7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head_tiles, "ROWS", 4)
        patch.setattr(head_tiles, "TILE", data.draw(st.sampled_from([256, 512, 2048])))
        found = linear_cross_entropy_sample(
            # A product of whole numbers is exact, whatever its shape.
            torch.eye(rows),
            torch.from_numpy(logits.T.copy()),
            targets,
            seed_epoch=torch.tensor([seed, epoch]),
            sample_ids=ids,
            positions=places,
            temperature=temperature,
            forbidden=None if forbidden is None else torch.tensor(forbidden, dtype=torch.int64),
            exclude_targets=exclude,
        )
    for row in range(rows):
        never = [*(forbidden or ()), *([int(targets[row])] if exclude else ())]
        expected = sweep_row(
            logits[row], int(ids[row]), int(places[row]), temperature=temperature,
            forbidden=never, seed=seed, epoch=epoch,
        )  # fmt: skip
        assert found.sampled[row] == expected


@pytest.mark.parametrize("apart", [1, 16, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_frequencies_follow_the_softmax(simd, apart, temperature):
    # Forty tokens, so far apart that they are in one block, in three and in sixteen.
    rows, vocabulary = 20_000, 40
    row = torch.from_numpy(np.random.default_rng(8).normal(0, 2, vocabulary)).float()
    weight = torch.full((vocabulary * apart, 1), -1e9)
    weight[::apart, 0] = row
    found = linear_cross_entropy_sample(
        torch.ones(rows, 1), weight, torch.zeros(rows, dtype=torch.int64),
        seed_epoch=torch.tensor([4, 0]), temperature=temperature,
    )  # fmt: skip
    assert not (found.sampled % apart).any()
    counts = torch.bincount(found.sampled // apart, minlength=vocabulary).double()
    expected = rows * (row.double() / temperature).softmax(0)
    chi = float(((counts - expected) ** 2 / expected).sum())
    low, high = chi2.ppf([1e-6, 1 - 1e-6], vocabulary - 1)
    assert low < chi < high


def test_a_draw_depends_on_its_key_alone():
    """Not on the rows beside it, which a batch or an accumulation step may part otherwise."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randint(-2, 3, (2_500, 4), generator=generator).float()
    weight = torch.randint(-2, 3, (5_000, 4), generator=generator).float()
    targets, ids = torch.zeros(2_500, dtype=torch.int64), torch.arange(2_500) + 9
    pair = torch.tensor([1, 2])
    whole = linear_cross_entropy_sample(hidden, weight, targets, seed_epoch=pair, sample_ids=ids)
    order = torch.randperm(2_500, generator=generator)[:700]
    part = linear_cross_entropy_sample(
        hidden[order], weight, targets[order], seed_epoch=pair, sample_ids=ids[order]
    )
    assert torch.equal(part.sampled, whole.sampled[order])
    again = linear_cross_entropy_sample(
        hidden, weight, targets, seed_epoch=torch.tensor([1, 3]), sample_ids=ids
    )
    assert (again.sampled != whole.sampled).float().mean() > 0.5


# opcheck looks at the gradients of tensors that are not leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("draw", [False, True])
@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[-1]], ids=["plain", "all"])
def test_opcheck(options, draw):
    hidden, weight, targets, given = inputs(5, 4, 30, options)
    numbers = [given.get(name, default) for name, default in (
        ("label_smoothing", 0.0), ("softcap", None), ("z_loss", 0.0), ("scale", 1.0),
    )]  # fmt: skip
    pair = torch.tensor([1, 2]) if draw else None
    arguments = (
        hidden, weight, targets, given.get("bias"), given.get("row_weights"), *numbers, pair, None,
        None, 1.0, None, False,
    )  # fmt: skip
    found = torch.library.opcheck(torch.ops.metro_fast.linear_cross_entropy_sample, arguments)
    assert set(found.values()) == {"SUCCESS"}


def test_one_graph_and_checkpoints():
    hidden, weight, targets, given = inputs(9, 4, 50, OPTIONS[-1])
    pair = torch.tensor([1, 2])

    def run(hidden):
        found = linear_cross_entropy_sample(hidden, weight, targets, seed_epoch=pair, **given)
        return found.loss.sum(), found.sampled

    loss, sampled = run(hidden)
    expected = torch.autograd.grad(loss, [hidden, weight])
    for other in (
        torch.compile(run, backend="aot_eager", fullgraph=True),
        lambda hidden: checkpoint(run, hidden, use_reentrant=False),
    ):
        again, tokens = other(hidden)
        assert torch.equal(tokens, sampled)
        for one, two in zip(torch.autograd.grad(again, [hidden, weight]), expected, strict=True):
            torch.testing.assert_close(one, two)


def test_no_rows_have_a_gradient():
    hidden, weight, targets, _ = inputs(0, 4, 50, {})
    found = linear_cross_entropy_sample(hidden, weight, targets, seed_epoch=torch.tensor([0, 0]))
    assert found.sampled.shape == found.loss.shape == (0,)
    found.loss.sum().backward()
    assert not weight.grad.any()
    assert hidden.grad.shape == (0, 4)


PAIR = torch.tensor([0, 0])


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"targets": torch.tensor([0, 9])}, MetroFastError, "9 at row 1"),
        ({"targets": torch.tensor([0])}, MetroFastError, r"targets has shape \(1,\)"),
        ({"targets": torch.tensor([0, 1], dtype=torch.int32)}, TypeError, "targets is torch.int32"),
        ({"hidden": torch.zeros(2, 4)}, MetroFastError, r"weight has shape \(9, 3\)"),
        ({"hidden": torch.zeros(2, 3).double()}, TypeError, "expected one dtype"),
        ({"hidden": torch.zeros(3)}, TypeError, r"hidden has shape \(3,\)"),
        ({"bias": torch.zeros(8)}, MetroFastError, r"bias has shape \(8,\), expected \(9,\)"),
        ({"row_weights": torch.zeros(3)}, MetroFastError, "row_weights has shape"),
        ({"seed_epoch": PAIR, "temperature": 0.0}, MetroFastError, "temperature is 0"),
        ({"seed_epoch": PAIR - 1}, MetroFastError, "seed is -1"),
        ({"seed_epoch": PAIR, "forbidden": torch.tensor([9])}, MetroFastError, "forbidden is 9"),
        ({"seed_epoch": PAIR, "forbidden": torch.arange(9)}, MetroFastError, "-inf at row 0"),
        ({"seed_epoch": PAIR, "sample_ids": PAIR - 1}, MetroFastError, "-1 at row 0"),
        (
            {"seed_epoch": PAIR, "positions": PAIR[:1]},
            MetroFastError,
            r"positions has shape \(1,\)",
        ),
        ({"seed_epoch": PAIR, "hidden": torch.full((2, 3), torch.nan)}, MetroFastError, "NaN"),
    ],
)
def test_bad_input_is_named(change, kind, message):
    given = {
        "hidden": torch.zeros(2, 3), "weight": torch.ones(9, 3), "targets": torch.tensor([1, 2]),
    }  # fmt: skip
    with pytest.raises(kind, match=message):
        linear_cross_entropy_sample(**{**given, **change})


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_one_bad_logit_among_many_blocks_is_named(bad):
    """Not only where all blocks are bad: a token of another block must not be drawn in silence."""
    weight = torch.ones(900, 1)
    weight[300] = bad
    with pytest.raises(MetroFastError, match="NaN or inf at row 0"):
        linear_cross_entropy_sample(torch.ones(2, 1), weight, torch.tensor([0, 1]), seed_epoch=PAIR)


def test_without_a_draw_a_bad_row_has_a_bad_loss():
    hidden = torch.zeros(3, 2)
    hidden[1] = torch.nan
    found = linear_cross_entropy_sample(hidden, torch.ones(5, 2), torch.tensor([0, 1, 2]))
    assert found.loss.isnan().tolist() == [False, True, False]
