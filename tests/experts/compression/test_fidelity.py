"""fidelity: the update of each module as stock PEFT computes it, before and after."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import peft
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers.pytorch_utils import Conv1D

from metro_fast import MetroFastError
from metro_fast.experts import (
    ModuleFidelity,
    compress,
    fidelity,
    task_vector,
    tune_compression,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:(the update of|group|Unsupported layer|LoRA adapter added to ConvNd):UserWarning"
)
Deltas = dict[str, np.ndarray]

LAYERS: dict[str, Callable[[], torch.nn.Module]] = {
    "linear": lambda: torch.nn.Linear(40, 24),
    "embedding": lambda: torch.nn.Embedding(30, 16),
    "transposed": lambda: Conv1D(24, 40),
    "conv1d": lambda: torch.nn.Conv1d(6, 8, 3),
    "conv2d": lambda: torch.nn.Conv2d(6, 8, 3),
    "conv2d 1x1": lambda: torch.nn.Conv2d(6, 8, 1),
    "conv3d": lambda: torch.nn.Conv3d(4, 6, 3),
}


def shaken(model: Any, seed: int, size: float = 1.0, power: int = 3) -> Any:
    """The model after a training that moved each factor, some entries far more than others."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=draw) ** power
                parameter += (size * noise).to(parameter.dtype)
    return model


def adapted(layer: str, config: Any, seed: int = 0) -> Any:
    """Two layers of a kind under an adapter, which has been trained."""
    torch.manual_seed(seed)
    base = torch.nn.ModuleDict({"one": LAYERS[layer](), "two": LAYERS[layer]()})
    return shaken(peft.get_peft_model(base, config), seed)


def lora(**more: Any) -> peft.LoraConfig:
    return peft.LoraConfig(**({"r": 4, "lora_alpha": 6, "target_modules": ["one", "two"]} | more))


def deltas(model: Any, state: Mapping[str, Any] | None = None) -> Deltas:
    """PEFT's update of each module, with the model's own factors or with others."""
    if state is not None:
        model = copy.deepcopy(model)
        tensors = {name: torch.as_tensor(value) for name, value in state.items()}
        result = peft.set_peft_model_state_dict(model, tensors)
        assert not result.unexpected_keys
    return {
        name: layer.get_delta_weight("default").detach().double().numpy().ravel()
        for name, layer in model.named_modules()
        if isinstance(layer, BaseTunerLayer)
    }


def state_of(model: Any) -> dict[str, torch.Tensor]:
    state = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.clone() for name, tensor in state.items()}


def assert_is(rows: list[ModuleFidelity], before: Deltas, after: Deltas, rel: float = 1e-5) -> None:
    """The rows are the cosines and norm ratios of these updates, module by module."""
    assert [row.module for row in rows] == sorted(before)
    for row in rows:
        x, y = before[row.module], after[row.module]
        norms = np.linalg.norm(x), np.linalg.norm(y)
        assert row.cosine == pytest.approx(x @ y / norms[0] / norms[1], rel=rel, abs=1e-6)
        assert row.norm_ratio == pytest.approx(norms[1] / norms[0], rel=rel)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "options",
    [{}, {"use_rslora": True, "rank_pattern": {"two": 2}, "alpha_pattern": {"one": 3}}],
    ids=["plain", "patterns"],
)
def test_fidelity_is_that_of_pefts_update(layer: str, options: dict[str, Any]) -> None:
    model = adapted(layer, lora(fan_in_fan_out=layer == "transposed", **options))
    for alpha in (None, 1.0):
        expert = compress(model, density=0.3, alpha=alpha)
        rows = fidelity(model, expert)
        assert_is(rows, deltas(model), deltas(model, expert.state_dict()))
        assert rows == fidelity(state_of(model), expert)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fidelity_is_of_what_is_loaded_in_the_adapters_dtype(dtype: torch.dtype) -> None:
    model = adapted("linear", lora())
    state = {name: tensor.to(dtype) for name, tensor in state_of(model).items()}
    expert = compress(state, density=0.3)
    loaded = {name: tensor.float() for name, tensor in expert.state_dict().items()}
    # The rounded scales of bfloat16 alone are up to 0.4 % off.
    assert_is(fidelity(state, expert), deltas(model, state), deltas(model, loaded))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("size", [0.02, 1.0], ids=["short", "long"])
@pytest.mark.parametrize("given", ["A", "A and B"])
def test_an_update_from_given_values_has_its_cross_terms(
    layer: str, size: float, given: str
) -> None:
    begin = lora(fan_in_fan_out=layer == "transposed", init_lora_weights=given == "A")
    torch.manual_seed(3)
    base = torch.nn.ModuleDict({"one": LAYERS[layer](), "two": LAYERS[layer]()})
    model = peft.get_peft_model(base, begin)
    start, first = state_of(model), deltas(model)
    trained = state_of(shaken(model, 3, size))
    initial = {name: tensor for name, tensor in start.items() if given != "A" or "_A" in name}
    expert = compress(trained, density=0.2, initial=initial)
    after = deltas(model, expert.state_dict(initial=initial))
    moved = {name: values - first[name] for name, values in deltas(model).items()}
    kept = {name: values - first[name] for name, values in after.items()}
    rows = fidelity(trained, expert, initial=initial)
    assert_is(rows, moved, kept, rel=1e-4)
    vector = task_vector(trained, initial=initial)
    assert fidelity(vector, expert) == rows
    assert fidelity(vector, expert, initial=initial) == rows
    # The figures that compress has at hand are the exact ones here, but for rounding.
    for estimate, row in zip(expert.estimated_fidelity, rows, strict=True):
        assert estimate.cosine == pytest.approx(row.cosine, abs=1e-5)
        assert estimate.norm_ratio == pytest.approx(row.norm_ratio, rel=1e-4)


def test_a_continued_training_is_not_called_erased() -> None:
    """As between two checkpoints: little has changed, most of it along what was there."""
    model = shaken(adapted("linear", lora(init_lora_weights=False)), 5)
    start, first = state_of(model), deltas(model)
    trained = state_of(shaken(model, 6, 0.05, power=1))
    with pytest.warns(UserWarning, match="the update of base_model.model.one"):
        compress({name: trained[name] - start[name] for name in start}, density=0.02)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda message, **_: pytest.fail(str(message)))
        expert = compress(trained, density=0.02, initial=start)
    after = deltas(model, expert.state_dict(initial=start))
    for row in fidelity(trained, expert, initial=start):
        x, y = (side[row.module] - first[row.module] for side in (deltas(model), after))
        assert row.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-4)
        assert row.cosine > 0.2


def test_erased_from_given_values_depends_on_alpha() -> None:
    """The cross terms shrink with alpha and the product of changes with its square."""
    draw = np.random.default_rng(2)
    a0, da, b0, db = (draw.standard_normal(s) for s in ((4, 40), (4, 40), (30, 4), (30, 4)))
    start = {"m.lora_A.weight": a0, "m.lora_B.weight": b0}
    trained = {"m.lora_A.weight": a0 + 0.1 * da, "m.lora_B.weight": b0 + 0.1 * db}
    start, trained = (
        {name: values.astype(np.float32) for name, values in side.items()}
        for side in (start, trained)
    )
    vector = task_vector(trained, initial=start)
    alphas = (1, "least_squares", 10, 1000)
    found = tune_compression(
        vector, lambda expert: expert, lambda expert: 0.0, densities=(0.02,), alphas=alphas
    )
    exact = [
        fidelity(vector, compress(vector, density=0.02, alpha=row.alpha))[0].erased
        for row in found.rows
    ]
    assert [bool(row.erased) for row in found.rows] == exact
    assert set(exact) == {True, False}


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_grouped_convolution_is_compared_by_groups(kernel: int) -> None:
    """PEFT reads a block of ranks for each block of outputs; asked by its forward pass."""
    base = torch.nn.ModuleDict({"one": torch.nn.Conv2d(8, 12, kernel, groups=4)})
    torch.manual_seed(0)
    model = shaken(peft.get_peft_model(base, lora(r=8, target_modules=["one"])), 0)
    layer = model.base_model.model["one"]
    inputs = torch.eye(8 * kernel**2).reshape(-1, 8, kernel, kernel)

    def effect(state: Mapping[str, torch.Tensor]) -> Deltas:
        peft.set_peft_model_state_dict(model, dict(state))
        with torch.no_grad():
            part = layer.lora_B["default"](layer.lora_A["default"](inputs))
        return {"base_model.model.one": part.double().numpy().ravel()}

    state = state_of(model)
    expert = compress(state, density=0.3)
    assert_is(fidelity(state, expert), effect(state), effect(expert.state_dict()))
    assert expert.estimated_fidelity[0].cosine == pytest.approx(
        fidelity(state, expert)[0].cosine, abs=1e-6
    )


def test_a_fused_projection_of_loralib_is_compared_by_groups() -> None:
    """loralib's MergedLinear: conv1d of A with B in as many groups as projections are adapted."""
    draw = np.random.default_rng(0)
    state = {
        "attn.c_attn.lora_A": draw.standard_normal((12, 32)).astype(np.float32) ** 3,
        "attn.c_attn.lora_B": draw.standard_normal((90, 4)).astype(np.float32) ** 3,
    }
    expert = compress(state, density=0.3)

    def delta(factors: Mapping[str, np.ndarray]) -> Deltas:
        a, b = (torch.from_numpy(factors[f"attn.c_attn.lora_{side}"]).double() for side in "AB")
        fused = torch.nn.functional.conv1d(a[None], b[:, :, None], groups=3)
        return {"attn.c_attn": fused.numpy().ravel()}

    assert_is(fidelity(state, expert), delta(state), delta(expert.arrays()))


def test_factors_of_a_mixture_are_compared_expert_by_expert() -> None:
    draw = np.random.default_rng(0)
    state = {
        "experts.lora_A.weight": draw.standard_normal((3, 4, 20)).astype(np.float32) ** 3,
        "experts.lora_B.weight": draw.standard_normal((3, 14, 4)).astype(np.float32) ** 3,
    }
    expert = compress(state, density=0.3)
    before, after = (
        {"experts": (s["experts.lora_B.weight"] @ s["experts.lora_A.weight"]).ravel()}
        for s in (state, expert.arrays())
    )
    assert_is(fidelity(state, expert), before, after)


@pytest.mark.parametrize("initial", [False, True])
def test_adalora_is_compared_with_its_e(initial: bool) -> None:
    config = peft.AdaLoraConfig(
        init_r=6, target_r=4, total_step=10, lora_alpha=6, target_modules=["one", "two"]
    )
    model = adapted("linear", config)
    start, first = state_of(model), deltas(model)
    options: dict[str, Any] = {}
    if initial:  # of E, too, which stays whole
        shaken(model, 9, 0.2)
        options = {"initial": start}
    state = state_of(model)
    with torch.no_grad():  # ranks that are all but pruned must not count
        for name, tensor in state.items():
            if "lora_E" in name:
                tensor[::2] *= 1e-3
    before, expert = deltas(model, state), compress(state, density=0.3, **options)
    assert [entry.name.rpartition(".")[2] for entry in expert.manifest.dense] == ["lora_E"] * 2
    after = deltas(model, expert.state_dict(**options))
    if initial:
        before, after = ({n: v - first[n] for n, v in side.items()} for side in (before, after))
    assert_is(fidelity(state, expert, **options), before, after, rel=1e-4)


@pytest.mark.parametrize("whole", ["A", "B"])
def test_a_factor_that_is_kept_whole_is_a_part_of_the_update(whole: str) -> None:
    model = adapted("linear", lora())
    expert = compress(model, density=0.2, dense=(f"*lora_{whole}*",))
    assert len(expert.manifest.dense) == 2
    rows = fidelity(model, expert)
    assert_is(rows, deltas(model), deltas(model, expert.state_dict()))
    for estimate, row in zip(expert.estimated_fidelity, rows, strict=True):
        assert estimate.cosine == pytest.approx(row.cosine, abs=1e-6)


def test_vectors_of_ia3_are_compared_as_what_they_add_to_1() -> None:
    torch.manual_seed(0)
    base = torch.nn.ModuleDict({"one": torch.nn.Linear(40, 24), "two": torch.nn.Linear(24, 40)})
    config = peft.IA3Config(target_modules=["one", "two"], feedforward_modules=["two"])
    model = shaken(peft.get_peft_model(base, config), 0, 0.1)
    state = {name: tensor.to(torch.bfloat16) for name, tensor in state_of(model).items()}
    expert = compress(state, density=0.3)
    before, after = (
        {name: tensor.double().numpy().ravel() - 1 for name, tensor in side.items()}
        for side in (state, expert.state_dict())
    )
    assert_is(fidelity(state, expert), before, after)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_full_residual_is_compared_as_it_is_loaded(dtype: torch.dtype) -> None:
    """A sum with a base in bfloat16 drops what is below half a step of the base."""
    draw = torch.Generator().manual_seed(0)
    base = {"w": torch.randn(64, 64, generator=draw).to(dtype)}
    change = 0.004 * torch.randn(64, 64, generator=draw) ** 3
    tuned = {"w": (base["w"].float() + change).to(dtype)}
    expert = compress(tuned, kind="full", initial=base, density=0.2)
    before, after = (
        {"w": (side["w"].double() - base["w"].double()).numpy().ravel()}
        for side in (tuned, expert.state_dict(initial=base))
    )
    rows = fidelity(tuned, expert, initial=base)
    assert_is(rows, before, after, rel=1e-3)
    # A task vector does not hold the base: compared before the sum is rounded.
    trits = expert.trits()["w"] * expert.scales[0]
    vector = task_vector(tuned, kind="full", initial=base)
    assert_is(fidelity(vector, expert), before, {"w": trits.astype(np.float64).ravel()})
    assert fidelity(vector, expert, initial=base) == rows


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((4, 20), (10, 3)),
        ((3, 20), (10, 4)),
        ((8, 20), (9, 4)),
        ((2, 4, 9), (3, 5, 4)),
    ],
)
def test_factors_without_a_product_are_refused_by_name(
    a: tuple[int, ...], b: tuple[int, ...]
) -> None:
    state = {"q.lora_A.weight": np.ones(a, np.float32), "q.lora_B.weight": np.ones(b, np.float32)}
    expert = compress(state)
    assert [row.module for row in expert.estimated_fidelity] == list(state)
    with pytest.raises(MetroFastError, match=r"q\.lora_A\.weight has shape .* q\.lora_B\.weight"):
        fidelity(state, expert)


def test_an_e_of_another_rank_is_refused_by_name() -> None:
    state = {
        "q.lora_A": np.ones((4, 20), np.float32),
        "q.lora_B": np.ones((10, 4), np.float32),
        "q.lora_E": np.ones((3, 1), np.float32),
    }
    with pytest.raises(MetroFastError, match=r"q\.lora_E has shape \(3, 1\)"):
        fidelity(state, compress(state))


def test_names_of_factors_in_another_kind_mean_nothing() -> None:
    draw = np.random.default_rng(0)
    state = {f"q.lora_{n}": draw.standard_normal((6, 7)).astype(np.float32) for n in "AB"}
    expert = compress(state, kind="other", density=0.4)
    names = ["q.lora_A", "q.lora_B"]
    assert [row.module for row in fidelity(state, expert)] == names
    assert [row.module for row in expert.estimated_fidelity] == names
