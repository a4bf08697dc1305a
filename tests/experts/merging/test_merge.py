"""experts.merge and similarity: upstream's goldens, PEFT's own functions, and refusals."""

import json
from pathlib import Path

import numpy as np
import pytest

from metro_fast import MetroFastError
from metro_fast.experts import Expert, compress, merge, save_plain, similarity
from metro_fast.experts.merging.factors import Pair, best_factors, product
from metro_fast.experts.merging.lora_delta import combine, factors_of
from metro_fast.experts.merging.lora_trimmed import trimmed_updates
from metro_fast.experts.merging.members import trits_of_combinations
from metro_fast.experts.merging.rules import Ties, elect, prune, ties

PREFIXES = [f"n{n}_{kind}_scale" for n in (2, 3, 5) for kind in ("equal", "unequal")]
HAND = ["hand_majority_minus", "hand_majority_plus", "hand_majority_zero"]
RULES = {
    f"{name}_{function}": {
        "method": "ties",
        "sign_ties": rule,
        "merge_function": function,
    }
    for name, rule in (("compeft_ties", "compeft"), ("peft_tie_rule", "peft"))
    for function in ("sum", "mean", "max")
} | {
    "peft_tie_rule_mean_frequency": {"method": "ties", "majority": "frequency"},
    "task_arithmetic_sum": {"method": "task_arithmetic"},
    "mean": {"method": "mean"},
    "peft_task_arithmetic_weighted": {"method": "task_arithmetic"},
    "peft_ties_weighted_density1": {"method": "ties"},
}
WEIGHTED = ("peft_task_arithmetic_weighted", "peft_ties_weighted_density1")


def ternary(values: np.ndarray, *, kind: str = "other") -> Expert:
    """An expert with exactly these values, whose nonzeros have one magnitude."""
    density = max(np.count_nonzero(values), 0.5) / values.size
    return compress({"w": values}, kind=kind, density=density, alpha="least_squares")


@pytest.mark.parametrize("prefix", PREFIXES + HAND)
def test_upstreams_merges_under_every_rule(simd, golden_folder: Path, prefix: str):
    from safetensors.numpy import load_file

    golden = load_file(golden_folder / "merge_ternary.safetensors")
    values = golden[f"{prefix}.codes"].astype(np.float32) * golden[f"{prefix}.scales"][:, None]
    experts = [ternary(row) for row in values]
    seen = 0
    for name, options in RULES.items():
        if f"{prefix}.{name}" not in golden:
            continue
        weights = golden[f"{prefix}.weights"].tolist() if name in WEIGHTED else None
        found = merge(experts, **options, weights=weights).residuals["w"].values
        expected = golden[f"{prefix}.{name}"]
        np.testing.assert_allclose(found, expected, atol=1e-8, rtol=0, err_msg=name)
        np.testing.assert_array_equal(found == 0, expected == 0, err_msg=name)
        seen += 1
    assert seen >= (6 if prefix in HAND else 10)


@pytest.mark.filterwarnings("ignore:The density 1.0:UserWarning")
def test_the_rules_on_dense_values_are_pefts():
    """The rule functions take any values, not only those of ternary experts."""
    torch = pytest.importorskip("torch")
    from peft.utils.merge_utils import calculate_majority_sign_mask, disjoint_merge
    from peft.utils.merge_utils import ties as peft_ties

    rng = np.random.default_rng(0)
    values = rng.standard_normal((4, 500)).round(1)
    weights = np.array([0.5, 1.0, -0.3, 2.0])
    tensors = [torch.from_numpy(row) for row in values]
    for majority in ("total", "frequency"):
        sign = elect(values, "peft", majority)
        mask = calculate_majority_sign_mask(torch.from_numpy(values), majority)
        # PEFT counts zeros as agreeing with an elected sign of 0, which does not occur here.
        expected = disjoint_merge(torch.from_numpy(values), mask).numpy()
        np.testing.assert_allclose(ties(values, np.ones(4), sign, "mean", "peft"), expected)
        expected = peft_ties(tensors, torch.from_numpy(weights), 1.0, majority).numpy()
        found = ties(values, weights, sign, "mean", "peft")
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


PREFIXES_DENSE = [f"dense_n{n}" for n in (2, 3, 5)]


@pytest.mark.parametrize("prefix", PREFIXES_DENSE)
def test_upstreams_merges_of_dense_vectors(golden_folder: Path, prefix: str):
    """Trim, elect, merge: PEFT's `ties` and `magnitude_prune`, ComPEFT's `ties_merging`."""
    from safetensors.numpy import load_file

    golden = load_file(golden_folder / "merge_dense.safetensors")
    values = golden[f"{prefix}.inputs"]
    weights = golden[f"{prefix}.weights"].astype(np.float64)
    ones = np.ones(len(values))
    seen = 0
    for key, expected in golden.items():
        name = key.removeprefix(f"{prefix}.")
        if name == key or name in ("inputs", "weights"):
            continue
        if name == "peft_task_arithmetic":
            found = weights @ values
        elif name.startswith("peft_magnitude_prune_density"):
            found = weights @ prune(values, float(name.rpartition("density")[2]))
        elif name.startswith("peft_ties_density"):
            density, majority = name.removeprefix("peft_ties_density").split("_")
            trimmed = prune(values, float(density))
            sign = elect(trimmed, "peft", majority)
            found = ties(trimmed, weights, sign, "mean", "peft")
        else:
            percent, function = name.removeprefix("compeft_ties_reset").split("_")
            # Upstream keeps one entry more than the percentage.
            one_more = values.shape[1] * int(percent) // 100 + 1
            trimmed = prune(values, one_more / values.shape[1])
            sign = elect(trimmed, "compeft")
            majority_sign = float(np.sign(sign.sum()))
            sign = elect(trimmed, "compeft", "total", majority_sign)
            found = ties(trimmed, ones, sign, function, "compeft")
        np.testing.assert_allclose(found, expected, atol=1e-8, rtol=0, err_msg=name)
        np.testing.assert_array_equal(found == 0, expected == 0, err_msg=name)
        seen += 1
    assert seen == 16


def golden_adapters(golden_folder: Path):
    """Each group of PEFT's adapters: its factors by name, its record, and its tensors."""
    from safetensors.numpy import load_file

    golden = load_file(golden_folder / "peft_weighted_adapter.safetensors")
    about = json.loads((golden_folder / "peft_weighted_adapter.json").read_text())
    for group in about["groups"]:
        name = group["group"]
        parts = {}
        for adapter, scaling in zip(group["adapters"], group["scaling"], strict=True):
            factors = {}
            for module in about["modules"]:
                a, b = (golden[f"{name}.{adapter}.{module}.lora_{x}.weight"] for x in "AB")
                factors[module] = Pair(a, b, scaling)
            parts[adapter] = factors
        yield (
            group,
            parts,
            {
                key.removeprefix(f"{name}."): value
                for key, value in golden.items()
                if key.startswith(f"{name}.")
            },
        )


def test_updates_are_merged_as_peft_does(golden_folder: Path):
    """`cat`, `svd`, `ties_svd`, `magnitude_prune_svd`; PEFT's rslora is sqrt(rank) too large."""
    tested = dict.fromkeys(("cat", "svd", "ties_svd", "magnitude_prune_svd"), 0)
    for group, parts, golden in golden_adapters(golden_folder):
        weights = np.array(group["weights"])
        for variant in group["merges"]:
            kind, rank = variant["combination_type"], variant["new_rank"]
            if kind not in tested:
                continue
            if kind in ("cat", "svd"):
                found = combine(parts, weights, None if kind == "cat" else rank)
            else:
                rule = Ties() if kind == "ties_svd" else None
                updates = trimmed_updates(parts, weights, variant["kwargs"]["density"], rule)
                like = next(iter(parts.values()))
                found = {m: best_factors(update, rank, like[m]) for m, update in updates}
            for module, pair in found.items():
                assert len(pair.a) == rank
                expected = golden[f"{variant['name']}.{module}.delta_w"]
                if group["use_rslora"]:
                    expected = expected / np.sqrt(rank)
                # PEFT decomposes in float32.
                np.testing.assert_allclose(product(pair), expected, atol=1e-5, rtol=0)
                tested[kind] += 1
    assert min(tested.values()) >= 9, tested


@pytest.fixture(scope="module")
def adapters():
    """Two LoRA experts of different rank and scaling, and a third of the first one's layout."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")

    def base():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.Linear(30, 20))

    def expert(seed: int, **options) -> Expert:
        config = peft.LoraConfig(
            **{"r": 4, "lora_alpha": 8, "target_modules": ["0", "1"]} | options
        )
        adapted = peft.get_peft_model(base(), config)
        generator = torch.Generator().manual_seed(seed)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, generator=generator)
        return compress(adapted, density=0.3)

    other = {"r": 2, "lora_alpha": 3, "use_rslora": True}
    return base, [expert(1), expert(2), expert(3, **other), expert(4, rank_pattern={"1": 3})]


def deltas(base, folder: Path) -> list[np.ndarray]:
    """The update that PEFT adds to each layer."""
    peft = pytest.importorskip("peft")
    adapted = peft.PeftModel.from_pretrained(base(), folder)
    layers = [m for m in adapted.modules() if hasattr(m, "get_delta_weight")]
    return [layer.get_delta_weight("default").numpy() for layer in layers]


@pytest.mark.parametrize("rank", [None, 3])
def test_a_merged_folder_equals_the_sum_by_peft(adapters, tmp_path: Path, rank):
    from metro_fast.experts import decompress

    base, experts = adapters
    weights = [0.5, -1.0, 2.0, 1.0]
    parts = []
    for i, one in enumerate(experts):
        decompress(one, tmp_path / str(i))
        parts.append(deltas(base, tmp_path / str(i)))
    vector = merge(experts, method="task_arithmetic", weights=weights, space="delta", rank=rank)
    save_plain(vector, tmp_path / "merged")
    found = deltas(base, tmp_path / "merged")
    for layer in range(2):
        expected = sum(w * part[layer] for w, part in zip(weights, parts, strict=True))
        if rank is not None:
            u, s, vt = np.linalg.svd(expected.astype(np.float64))
            expected = u[:, :rank] * s[:rank] @ vt[:rank]
        np.testing.assert_allclose(found[layer], expected, atol=2e-4)
    assert compress(vector, density=0.5).manifest.kind == "lora"


@pytest.mark.parametrize("sign_ties", ["peft", "compeft"])
def test_ties_of_updates(adapters, tmp_path: Path, sign_ties: str):
    """Updates of ternary factors have few different magnitudes: rounding would decide what a trim
    keeps, so that what is expected starts from the same product."""
    base, experts = adapters
    parts = [list(factors_of(expert).values()) for expert in experts]
    trimmed = [
        prune(np.stack([product(part[i]).reshape(-1) for part in parts], dtype="f4"), 0.4)
        for i in range(2)
    ]
    vector = merge(experts, method="ties", space="delta", rank=20, trim=0.4, sign_ties=sign_ties)
    save_plain(vector, tmp_path / "merged")
    found = deltas(base, tmp_path / "merged")
    undecided = float(np.sign(sum(elect(v, "compeft").sum() for v in trimmed)))
    for layer, values in enumerate(trimmed):
        sign = elect(values, sign_ties, "total", undecided)
        expected = ties(values, np.ones(4), sign, "mean", sign_ties).reshape(found[layer].shape)
        u, s, vt = np.linalg.svd(expected)
        expected = u[:, :20] * s[:20] @ vt[:20]
        np.testing.assert_allclose(found[layer], expected, atol=2e-4)


def test_many_experts_are_summed_in_parts():
    rng = np.random.default_rng(0)
    experts = [ternary(rng.integers(-1, 2, 500).astype(np.float32) * 0.5) for _ in range(19)]
    weights = rng.standard_normal(19)
    found = merge(experts, method="task_arithmetic", weights=weights.tolist())
    arrays = np.stack([expert.arrays()["w"] for expert in experts]).astype(np.float64)
    np.testing.assert_allclose(found.residuals["w"].values, weights @ arrays, atol=1e-5)


@pytest.mark.parametrize("sign_ties", ["peft", "compeft"])
@pytest.mark.parametrize("majority", ["total", "frequency"])
def test_ties_of_many_experts_equals_that_of_their_values(sign_ties: str, majority: str):
    """More experts than a table of combinations holds; for the first eight both ways agree."""
    rng = np.random.default_rng(0)
    experts = [
        compress(
            {n: rng.standard_normal(shape).astype(np.float32) for n, shape in SHAPES.items()},
            kind="other",
            scope="tensor",
            density=0.3,
        )
        for _ in range(11)
    ]
    weights = rng.standard_normal(11)
    for count in (8, 11):
        options = {"sign_ties": sign_ties, "majority": majority, "weights": weights[:count]}
        found = merge(experts[:count], method="ties", **options)
        flat = {n: np.stack([e.arrays()[n] for e in experts[:count]]) for n in SHAPES}
        values = {n: v.reshape(count, -1).astype(np.float64) for n, v in flat.items()}
        undecided = sum(float(elect(v, "compeft", majority).sum()) for v in values.values())
        for name, v in values.items():
            sign = elect(v, sign_ties, majority, float(np.sign(undecided)))
            expected = ties(v, weights[:count], sign, "mean", sign_ties).reshape(SHAPES[name])
            np.testing.assert_allclose(found.residuals[name].values, expected, atol=1e-6)


SHAPES = {"a": (37, 11), "b": (400, 700), "c": (5,)}
"""One tensor is longer than a slab; the length of another is not a multiple of 8."""


def test_ia3_and_heads():
    rng = np.random.default_rng(0)
    states = [
        {
            "m.ia3_l": rng.normal(1, 0.3, 64).astype(np.float32),
            "classifier.bias": rng.standard_normal(3).astype(np.float32),
        }
        for _ in range(2)
    ]
    experts = [compress(state, density=0.5) for state in states]
    with pytest.raises(MetroFastError, match=r"dense tensors \(classifier.bias\)"):
        merge(experts)
    vector = merge(experts, heads_from=1)
    expected = np.mean([expert.arrays()["m.ia3_l"] - 1 for expert in experts], axis=0)
    np.testing.assert_allclose(vector.residuals["m.ia3_l"].values, expected, atol=1e-6)
    assert vector.residuals["m.ia3_l"].initial == "one"
    np.testing.assert_array_equal(
        vector.dense["classifier.bias"].data, states[1]["classifier.bias"]
    )
    with pytest.raises(MetroFastError, match="heads_from is 2, expected 0 to 1"):
        merge(experts, heads_from=2)


def test_experts_that_do_not_fit_together_are_refused(adapters):
    _, experts = adapters
    ones = ternary(np.float32([1, 0, -1]))
    cases = [
        (lambda: merge([]), "no experts"),
        (lambda: merge([ones], method="dare"), "method is 'dare', expected one of mean"),
        (lambda: merge([ones], merge_function="median"), "merge_function is 'median'"),
        (lambda: merge([ones, ones], weights=[1.0]), "expected 2 finite numbers"),
        (lambda: merge([ones, ones], weights=[1.0, np.nan]), "expected 2 finite numbers"),
        (lambda: merge([ones, ternary(np.float32([1, 0]))]), r"w has shape \(2,\) in expert 1"),
        (lambda: merge([ones, experts[0]]), "expert 1 has kind 'lora'"),
        (lambda: merge([experts[0], experts[2]], space="factors"), "only the updates B A of LoRA"),
        (lambda: merge([ones], space="delta"), "space='delta' is for LoRA experts, and these have"),
        (
            lambda: merge([ones], rank=2),
            "rank is 2, which is for LoRA experts, and these have kind",
        ),
        (lambda: merge(experts, space="factors", rank=2), "rank is 2, which needs space='delta'"),
        (lambda: merge(experts, space="delta", rank=0), "rank is 0"),
        (lambda: merge(experts, rank=2.5), r"rank is 2.5, expected a whole number"),
        (lambda: merge(experts, space="delta", method="ties"), "rank= says which rank"),
        (lambda: merge(experts, space="delta", trim=0.5), "rank= says which rank"),
        (lambda: merge(experts, space="delta", trim=0.0, rank=2), "trim is 0.0, expected a share"),
        (lambda: merge(experts, space="delta", trim=0.5, rank=0), "rank is 0"),
        (lambda: merge(experts, trim=0.5), "rank= says which rank"),
        (lambda: similarity([ones, experts[0]]), "expert 1 has kind 'lora'"),
    ]
    for call, message in cases:
        with pytest.raises(MetroFastError, match=message):
            call()
    with pytest.raises(TypeError, match="an expert is a dict"):
        similarity([{}])
    with pytest.raises(TypeError, match="an expert is a list"):
        merge([[1]])


def test_combinations():
    trits = trits_of_combinations(2)
    assert trits.shape == (2, 16)
    assert trits[:, 0b0111].tolist() == [-1, 1]


def test_similarity_is_the_cosine_of_the_values(simd, adapters, tmp_path: Path):
    _, experts = adapters
    rng = np.random.default_rng(1)
    state = {name: rng.standard_normal((9, 33)).astype(np.float32) for name in "abc"}
    changed = {name: values + (name != "b") for name, values in state.items()}
    by_name = {
        "one": compress(state, kind="other", scope="tensor"),
        "two": compress(changed, kind="other", density=0.4),
        "zero": compress({name: 0 * values for name, values in state.items()}, kind="other"),
    }
    found = similarity(by_name)
    flat = [np.concatenate([a.reshape(-1) for a in e.arrays().values()]) for e in by_name.values()]
    for i, x in enumerate(flat):
        for j, y in enumerate(flat):
            norm = np.linalg.norm(x) * np.linalg.norm(y)
            expected = np.vdot(x, y) / norm if norm else 0.0
            assert found.matrix[i, j] == pytest.approx(expected, abs=1e-6)
    found.write_csv(tmp_path / "pairs.csv")
    lines = (tmp_path / "pairs.csv").read_text().splitlines()
    assert lines[0] == "expert,one,two,zero"
    assert float(lines[1].split(",")[2]) == found.matrix[0, 1]
    twins = similarity([experts[0], experts[1], Expert(experts[0].file.copy(), experts[0].config)])
    assert twins.pairs(0.99) == [("0", "2", pytest.approx(1.0))]


def test_the_commands(adapters, tmp_path: Path):
    from typer.testing import CliRunner

    from metro_fast.cli.expert_merge import app as merge_app
    from metro_fast.cli.expert_similarity import app as similarity_app

    base, experts = adapters
    for i, one in enumerate(experts[:2]):
        one.save(tmp_path / str(i))
    folders = [str(tmp_path / str(i)) for i in range(2)]
    plain, small = tmp_path / "plain", tmp_path / "small"
    options = ["--method", "task_arithmetic", "--weights", "0.5,2", "--space", "delta"]
    found = CliRunner().invoke(merge_app, [*folders, "--out", str(plain), *options])
    assert found.exit_code == 0, (found.output, found.exception)
    assert len(deltas(base, plain)) == 2
    found = CliRunner().invoke(
        merge_app, [*folders, "--out", str(small), "--method", "ties", "--density", "0.3"]
    )
    assert found.exit_code == 0, (found.output, found.exception)
    assert "keeps a cosine of about" in found.output
    assert Expert.load(small).manifest.kind == "lora"
    assert "contains adapter_model.safetensors already" in str(
        CliRunner().invoke(merge_app, [*folders, "--out", str(plain)]).exception
    )
    new = str(tmp_path / "new")
    found = CliRunner().invoke(merge_app, [*folders, "--out", new, "--weights", "1"])
    assert "1 weights are given for 2 experts" in str(found.exception)
    found = CliRunner().invoke(similarity_app, [*folders, "--csv", str(tmp_path / "m.csv")])
    assert found.exit_code == 0, (found.output, found.exception)
    assert "0 pairs of 2 experts" in found.output
    assert (tmp_path / "m.csv").exists()
