"""A weight of a LoRA acts once: merges against formulas in numpy and PEFT's own merges.

What is compared is the update of each layer of a stock PEFT model that loaded the merged folder.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metro_fast import MetroFastError
from metro_fast.experts import Expert, compress, decompress, merge, save_plain, similarity
from strangers import with_other_config

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

pytestmark = pytest.mark.filterwarnings(
    "ignore:LoRA adapter added to ConvNd layer with groups:UserWarning",
    "ignore:The density 1.0:UserWarning",
)
LAYERS = ("linear", "other.linear", "embedding", "conv", "grouped")


class Layers(torch.nn.Module):
    """One layer of each kind that LoRA adapts; one name ends in another."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(24, 16)
        self.other = torch.nn.ModuleDict({"linear": torch.nn.Linear(16, 12, bias=False)})
        self.embedding = torch.nn.Embedding(30, 12)
        self.conv = torch.nn.Conv2d(6, 8, 3)
        self.grouped = torch.nn.Conv2d(6, 8, 3, groups=2)


def expert(seed: int, **options) -> Expert:
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": list(LAYERS)} | options)
    adapted = peft.get_peft_model(Layers(), config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, generator=generator)
    return compress(adapted, density=0.4, alpha="least_squares")


PATTERNS = {"rank_pattern": {"^linear": 6}, "alpha_pattern": {"conv": 3, "other.linear": 20}}
SAME_RANKS = [{}, {"lora_alpha": 2}, {"lora_alpha": 12}, {"lora_alpha": 5, "use_rslora": True}]
OTHER_RANKS = [{"r": 2, "lora_alpha": 3, "use_rslora": True}, PATTERNS, {"r": 8}]


def updates(expert: Expert, folder: Path) -> dict[str, np.ndarray]:
    """scaling * B A of each layer, computed from the files of the plain folder."""
    from safetensors.numpy import load_file

    decompress(expert, folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    return {layer: _update(layer, tensors, config) for layer in LAYERS}


def _update(layer: str, tensors: dict[str, np.ndarray], config: dict) -> np.ndarray:
    alpha = {"other.linear": 20, "conv": 3}.get(layer) if config["alpha_pattern"] else None
    alpha = config["lora_alpha"] if alpha is None else alpha
    a, b = factors(layer, tensors)
    scaling = alpha / (len(a) ** 0.5 if config["use_rslora"] else len(a))
    return scaling * multiplied(a, b)


def factors(layer: str, tensors: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    own = sorted(name for name in tensors if name.startswith(f"base_model.model.{layer}.lora_"))
    return tuple(tensors[name].astype(np.float64) for name in own)


def multiplied(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """B A, or for a convolution with groups the products of each group."""
    groups = len(a) // b.shape[1]
    left, right = np.split(b.reshape(len(b), -1), groups), np.split(a.reshape(len(a), -1), groups)
    return np.concatenate([x @ y for x, y in zip(left, right, strict=True)])


def loaded(folder: Path) -> dict[str, np.ndarray]:
    """scaling * B A of each layer, of the layers of a PEFT model that loaded the folder."""
    model = peft.PeftModel.from_pretrained(Layers(), folder)
    return {layer: layer_update(model, layer, "default") for layer in LAYERS}


def layer_update(model, layer: str, adapter: str) -> np.ndarray:
    found = model.base_model.model.get_submodule(layer)
    if layer == "embedding":
        pair = found.lora_embedding_A[adapter], found.lora_embedding_B[adapter]
    else:
        pair = found.lora_A[adapter].weight, found.lora_B[adapter].weight
    a, b = (factor.detach().numpy().astype(np.float64) for factor in pair)
    if layer in ("linear", "other.linear", "embedding", "conv"):
        delta = found.get_delta_weight(adapter).detach().numpy()
        delta = delta.T if layer == "embedding" else delta.reshape(len(delta), -1)
        np.testing.assert_allclose(delta, found.scaling[adapter] * multiplied(a, b), atol=1e-4)
    return found.scaling[adapter] * multiplied(a, b)


def merged(vector, folder: Path) -> dict[str, np.ndarray]:
    save_plain(vector, folder)
    return loaded(folder)


def close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for layer, update in expected.items():
        assert np.linalg.norm(update) > 0
        np.testing.assert_allclose(found[layer], update, rtol=2e-5, atol=2e-5, err_msg=layer)


@pytest.mark.parametrize("weight", [0.5, -2.0, 0.25])
@pytest.mark.parametrize("space", [None, "factors", "delta"])
@pytest.mark.parametrize("method", ["mean", "task_arithmetic", "ties"])
def test_one_expert_gets_its_weight_once(tmp_path: Path, method: str, space, weight: float):
    """It was weight ** 2 among factors: 0.25 for 0.5, and the sign of a negative one was lost."""
    one = expert(1, **PATTERNS)
    options = {"rank": 40} if (method, space) == ("ties", "delta") else {}
    vector = merge([one], method=method, weights=[weight], space=space, **options)
    expected = {k: weight * update for k, update in updates(one, tmp_path / "one").items()}
    close(merged(vector, tmp_path / "merged"), expected)


@pytest.mark.parametrize("weight", [0.5, -2.0])
@pytest.mark.parametrize("function", ["sum", "mean", "max"])
@pytest.mark.parametrize("sign_ties", ["peft", "compeft"])
def test_every_function_of_ties_keeps_weights(tmp_path: Path, sign_ties, function, weight: float):
    """`max` took the magnitude of a weighted value, so that a negative weight did nothing."""
    one = expert(1)
    parts = updates(one, tmp_path / "one")
    expected = {k: weight * update for k, update in parts.items()}
    options = {"method": "ties", "merge_function": function, "sign_ties": sign_ties}
    for name, more in (("factors", {}), ("delta", {"rank": 40}), ("trim", {"rank": 40, "trim": 1})):
        found = merge([one], weights=[weight], **options, **more)
        close(merged(found, tmp_path / name), expected)
    values = {"w": np.float32([[3, -1, 0, 2]])}
    plain = compress(values, kind="other", density=0.5)
    found = merge([plain], weights=[weight], **options).residuals["w"].values
    np.testing.assert_allclose(found, weight * plain.arrays()["w"])


@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("method", ["mean", "task_arithmetic"])
def test_updates_of_any_ranks_and_scalings_add_up(tmp_path: Path, method: str, rank):
    experts = [expert(i, **o) for i, o in enumerate(SAME_RANKS + OTHER_RANKS)]
    weights = [0.5, -1.0, 2.0, 0.3, 1.0, -0.7, 0.1]
    vector = merge(experts, method=method, weights=weights, rank=rank)
    parts = [updates(one, tmp_path / str(i)) for i, one in enumerate(experts)]
    expected = {}
    for layer in LAYERS:
        total = sum(w * part[layer] for w, part in zip(weights, parts, strict=True))
        groups = 2 if layer == "grouped" else 1
        pieces = np.split(total / (7 if method == "mean" else 1), groups)
        expected[layer] = np.concatenate(
            [piece if rank is None else best(piece, rank // groups) for piece in pieces]
        )
    close(merged(vector, tmp_path / "merged"), expected)


def best(update: np.ndarray, rank: int) -> np.ndarray:
    u, s, vt = np.linalg.svd(update, full_matrices=False)
    return u[:, :rank] * s[:rank] @ vt[:rank]


def test_factors_of_any_scalings_get_roots(tmp_path: Path):
    """The formula of PEFT's `linear`: sqrt(|w s|) with both, and the sign with A."""
    from safetensors.numpy import load_file

    experts = [expert(i, **PATTERNS | o) for i, o in enumerate(SAME_RANKS)]
    weights = [0.5, -1.0, 2.0, 0.3]
    for i, one in enumerate(experts):
        updates(one, tmp_path / str(i))
    vector = merge(experts, method="task_arithmetic", weights=weights, space="factors")
    found = merged(vector, tmp_path / "merged")
    for layer in LAYERS:
        a_sum = b_sum = 0.0
        for i, weight in enumerate(weights):
            a, b = factors(layer, load_file(tmp_path / str(i) / "adapter_model.safetensors"))
            config = json.loads((tmp_path / str(i) / "adapter_config.json").read_text())
            alpha = {"other.linear": 20, "conv": 3}.get(layer, config["lora_alpha"])
            own = weight * alpha / (len(a) ** 0.5 if config["use_rslora"] else len(a))
            a_sum = a_sum + np.sign(own) * abs(own) ** 0.5 * a
            b_sum = b_sum + abs(own) ** 0.5 * b
        expected = multiplied(a_sum, b_sum)
        np.testing.assert_allclose(found[layer], expected, atol=2e-5, err_msg=layer)


PEFTS = [
    ("linear", {"method": "task_arithmetic", "space": "factors"}, {}),
    ("ties", {"method": "ties"}, {"density": 1.0}),
    ("ties", {"method": "ties", "majority": "frequency"},
     {"density": 1.0, "majority_sign_method": "frequency"}),
    ("cat", {"method": "task_arithmetic"}, {}),
    ("svd", {"method": "task_arithmetic", "rank": 5}, {"svd_rank": 5}),
    ("svd", {"method": "task_arithmetic", "rank": 4}, {}),
]  # fmt: skip


CASES = [(ranks, *case) for case in PEFTS for ranks in ("equal", "different")]
FACTORS = ("linear", "ties")  # which add factors of one rank alone


@pytest.mark.parametrize(
    ("ranks", "combination", "ours", "theirs"),
    [case for case in CASES if case[0] == "equal" or case[1] not in FACTORS],
)
def test_it_equals_pefts_add_weighted_adapter(tmp_path: Path, ranks, combination, ours, theirs):
    """Embeddings and convolutions too, where PEFT can.

    `ties_svd` is tested on dense factors (test_updates_are_merged_as_peft_does): products of
    ternary ones are often exactly 0, which PEFT's float32 product makes 1e-8, a vote.
    """
    patterns = PATTERNS | {"alpha_pattern": {"other.linear": 20}}
    options = [{}, OTHER_RANKS[0], patterns, {"r": 8}] if ranks == "different" else SAME_RANKS
    layers = ["linear", "other.linear"]
    layers += ["embedding", "conv"] if "svd" not in combination else []
    experts = [expert(i, **{"target_modules": layers} | o) for i, o in enumerate(options)]
    weights = [0.5, -1.0, 2.0, 0.3]
    for i, one in enumerate(experts):
        decompress(one, tmp_path / str(i))
    model = peft.PeftModel.from_pretrained(Layers(), tmp_path / "0", adapter_name="0")
    for i in range(1, 4):
        model.load_adapter(tmp_path / str(i), str(i))
    if ranks == "different" and ours.get("rank") == 4:
        ours = ours | {"rank": 8}  # PEFT's default is the largest r
    model.add_weighted_adapter(list("0123"), weights, "sum", combination, **theirs)
    save_plain(merge(experts, weights=weights, **ours), tmp_path / "merged")
    again = peft.PeftModel.from_pretrained(Layers(), tmp_path / "merged")
    for layer in layers:
        expected = layer_update(model, layer, "sum")
        found = layer_update(again, layer, "default")
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-4, err_msg=layer)


@pytest.mark.parametrize("combination", ["linear", "ties"])
def test_ten_experts_equal_pefts_too(tmp_path: Path, combination: str):
    """More than one native call holds; scalings and weights differ between all of them."""
    layers, names = ["linear", "embedding"], [str(i) for i in range(10)]
    experts = [expert(i, lora_alpha=i + 1, target_modules=layers) for i in range(10)]
    for name, one in zip(names, experts, strict=True):
        decompress(one, tmp_path / name)
    model = peft.PeftModel.from_pretrained(Layers(), tmp_path / "0", adapter_name="0")
    for name in names[1:]:
        model.load_adapter(tmp_path / name, name)
    weights = [(-1) ** i * 0.1 * (i + 1) for i in range(10)]
    model.add_weighted_adapter(names, weights, "sum", combination, density=1.0)
    method = "ties" if combination == "ties" else "task_arithmetic"
    vector = merge(experts, method=method, weights=weights, space="factors")
    save_plain(vector, tmp_path / "merged")
    again = peft.PeftModel.from_pretrained(Layers(), tmp_path / "merged")
    for layer in layers:
        expected = layer_update(model, layer, "sum")
        found = layer_update(again, layer, "default")
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-4, err_msg=layer)


def projection(found: dict[str, np.ndarray], true: dict[str, np.ndarray]) -> float:
    """The part of the true mean that a merge has: <found, true> / <true, true>."""
    x, y = (np.concatenate([u.reshape(-1) for u in side.values()]) for side in (found, true))
    return float(x @ y / (y @ y))


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_mean_of_unrelated_experts_has_the_true_mean_in_it(tmp_path: Path, count: int):
    """It was 0.49, 0.33 and 0.10: 1 / count, since both factors were divided by it."""
    experts = [expert(i, r=8) for i in range(count)]
    parts = [updates(one, tmp_path / str(i)) for i, one in enumerate(experts)]
    true = {layer: sum(part[layer] for part in parts) / count for layer in LAYERS}
    close(merged(merge(experts), tmp_path / "default"), true)
    found = merged(merge(experts, space="factors"), tmp_path / "factors")
    assert projection(found, true) == pytest.approx(1, abs=0.15)


def test_factors_have_cross_terms(tmp_path: Path):
    """Half of what two unrelated experts give is one's A with the other's B."""
    experts = [expert(1), expert(2)]
    exact = merged(merge(experts), tmp_path / "exact")["linear"]
    apart = merged(merge(experts, space="factors"), tmp_path / "apart")["linear"]
    cosine = np.vdot(apart, exact) / np.linalg.norm(apart) / np.linalg.norm(exact)
    assert 0.5 < cosine < 0.9


def test_a_mean_of_equal_experts(tmp_path: Path):
    """Updates give the expert itself; factors as in PEFT give it once per expert."""
    one = expert(1)
    true = updates(one, tmp_path / "one")
    close(merged(merge([one] * 3), tmp_path / "delta"), true)
    found = merged(merge([one] * 3, space="factors"), tmp_path / "factors")
    close(found, {layer: 3 * update for layer, update in true.items()})


def test_similarity_counts_scalings():
    """Two experts that differ only in their alphas: a module with 9 times the scaling counts 9."""
    one = expert(1)
    config = json.loads(one.config)
    config["alpha_pattern"] = {"^linear": 72}
    two = with_other_config(one, json.dumps(config).encode())
    matrix = similarity([one, two]).matrix
    arrays = one.arrays(np.float32)
    square = {n: float(np.square(a.astype(np.float64)).sum()) for n, a in arrays.items()}
    own = sum(v for n, v in square.items() if ".model.linear." in n)
    rest = sum(square.values()) - own
    expected = (3 * own + rest) / np.sqrt((own + rest) * (9 * own + rest))
    assert matrix[0, 1] == pytest.approx(expected, rel=1e-5)
    assert expected < 0.97


def test_the_command_weighs_once(tmp_path: Path):
    from typer.testing import CliRunner

    from metro_fast.cli.expert_merge import app

    experts = [expert(1), expert(2, lora_alpha=3)]
    parts = [updates(one, tmp_path / f"plain{i}") for i, one in enumerate(experts)]
    for i, one in enumerate(experts):
        one.save(tmp_path / str(i))
    folders = [str(tmp_path / str(i)) for i in range(2)]
    options = ["--method", "task_arithmetic", "--weights", "0.5,-2"]
    for name, more in (("default", []), ("ranked", ["--rank", "8"]), ("mean", None)):
        arguments = ["--weights", "0.5,-2"] if more is None else [*options, *more]
        found = CliRunner().invoke(app, [*folders, "--out", str(tmp_path / name), *arguments])
        assert found.exit_code == 0, (found.output, found.exception)
        share = 2 if more is None else 1
        expected = {k: (0.5 * parts[0][k] - 2 * parts[1][k]) / share for k in LAYERS}
        close(loaded(tmp_path / name), expected)
    found = CliRunner().invoke(
        app, [*folders, "--out", str(tmp_path / "x"), "--space", "factors", "--rank", "2"]
    )
    assert found.exit_code != 0
    assert "--rank" in str(found.exception) + found.output


REFUSED = [
    (lambda one: [one, Expert(one.file)], "expert 1 has no adapter_config.json, so that its"),
    (lambda one: [Expert(one.file), one], "expert 0 has no adapter_config.json, so that its"),
    (lambda one: [one, changed(one, alora_invocation_tokens=[1])], "alora_invocation_tokens"),
    (lambda one: [one, changed(one, base_model_name_or_path="other")], "base model 'other'"),
    (lambda one: [one, changed(one, r=3)], "has rank 4, but adapter_config.json says 3"),
    (lambda one: [changed(one, lora_alpha="8")], "lora_alpha is '8', expected a finite number"),
    (lambda one: [changed(one, rank_pattern={"(": 4})], "not a pattern"),
    (lambda one: [one, expert(2, target_modules=["linear"])], "only one of the experts"),
]


def changed(one: Expert, **settings) -> Expert:
    config = json.loads(one.config) | settings
    vector = compress(one.arrays(np.float32), quantize="prune", density=1.0)
    return compress(replace(vector, config=json.dumps(config).encode()), density=0.4)


@pytest.mark.parametrize("space", ["delta", "factors"])
@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_experts_that_do_not_fit_are_refused_in_both_spaces(make, message: str, space: str):
    with pytest.raises(MetroFastError, match=message):
        merge(make(expert(1)), space=space)


def test_a_configuration_without_r_and_alpha_has_pefts_8(tmp_path: Path):
    one = expert(1, r=8, lora_alpha=2)
    config = {k: v for k, v in json.loads(one.config).items() if k not in ("r", "lora_alpha")}
    two = with_other_config(one, json.dumps(config).encode())
    expected = {k: 4 * update for k, update in updates(one, tmp_path / "one").items()}
    for space in ("delta", "factors"):
        close(merged(merge([two], space=space), tmp_path / space), expected)


@pytest.mark.parametrize("space", ["delta", "factors"])
def test_a_lora_with_initial_values_is_refused(space: str):
    rng = np.random.default_rng(0)
    state = {f"q.lora_{x}.weight": rng.standard_normal((4, 4)).astype(np.float32) for x in "AB"}
    one = compress(state, initial={"q.lora_A.weight": np.ones((4, 4), np.float32)}, density=0.5)
    with pytest.raises(MetroFastError, match=r"compressed with initial= \(q.lora_A.weight\)"):
        merge([one], space=space)


@pytest.mark.parametrize(("a", "b"), [((4, 6), (8, 3)), ((8, 2, 6), (8, 8, 2))])
def test_factors_that_form_no_product_are_refused(a: tuple, b: tuple):
    """Other ranks, one matrix for each expert of a mixture."""
    rng = np.random.default_rng(0)
    shapes = {"q.lora_A.weight": a, "q.lora_B.weight": b}
    state = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    one = compress(state, density=0.5)
    with pytest.raises(MetroFastError, match="which do not form a product B A"):
        merge([one])


def test_a_factor_that_was_kept_whole_is_merged(tmp_path: Path):
    rng = np.random.default_rng(0)
    state = {f"q.lora_{x}.weight": rng.standard_normal((4, 4)).astype(np.float32) for x in "AB"}
    one = compress(state, dense=["*lora_B*"], density=0.5)
    arrays = one.arrays()
    expected = 0.5 * arrays["q.lora_B.weight"] @ arrays["q.lora_A.weight"]
    found = merge([one], method="task_arithmetic", weights=[0.5]).residuals
    product = found["q.lora_B.weight"].values @ found["q.lora_A.weight"].values
    np.testing.assert_allclose(product, expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(MetroFastError, match=r"q.lora_B.weight as a dense tensor"):
        merge([one], space="factors")


def test_experts_and_weights_of_the_wrong_type_are_named() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((4, 64)).astype(np.float32) for _ in "AB")
    one = compress({"q.lora_A.weight": a, "q.lora_B.weight": b.T}, density=0.5)
    for alone in (one, "folder", {"a": one}):
        with pytest.raises(TypeError, match=f"experts is a {type(alone).__name__}, expected a"):
            merge(alone)
    for weights in ("ab", {"a": 1}, ["x", 1]):
        with pytest.raises(TypeError, match=r"weights are .*, expected 2 numbers"):
            merge([one, one], weights=weights)
    generated = merge(expert for expert in [one, one])
    expected = merge([one, one])
    for name, residual in expected.residuals.items():
        assert np.array_equal(generated.residuals[name].values, residual.values)
