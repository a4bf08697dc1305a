"""experts.compress: the values of kept entries, ComPEFT's own rules, and the size profile."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from golden_inputs import golden_input
from metro_fast import MetroFastError
from metro_fast.experts import TaskVector, compress, task_vector
from metro_fast.experts.adapters.peft_folder import write_folder
from metro_fast.experts.adapters.state_file import read_safetensors
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.plain.plain import save_plain

RNG = np.random.default_rng(5)
CODES = {-1: "-", 0: "0", 1: "+"}


def vector(*shape: int) -> np.ndarray:
    return RNG.standard_t(4, shape).astype(np.float32)


def top(values: np.ndarray, k: int) -> np.ndarray:
    """Mask of the k largest magnitudes, ties to the lowest index."""
    order = np.argsort(-np.abs(values.reshape(-1)), kind="stable")[:k]
    mask = np.zeros(values.size, bool)
    mask[order] = True
    return mask.reshape(values.shape)


@pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
def test_stc_scales_by_the_mean_magnitude_of_the_kept_entries(density):
    w = vector(40, 30)
    expert = compress({"w": w}, kind="other", quantize="stc", density=density)
    kept = top(w, int(w.size * density + 1e-6))
    scale = np.abs(w[kept]).mean(dtype=np.float64)
    assert expert.scales[0] == pytest.approx(scale, rel=1e-6)
    np.testing.assert_array_equal(expert.trits()["w"], np.sign(w) * kept)
    # No other scale has a smaller squared error.
    other = compress({"w": w}, kind="other", alpha="least_squares", density=density)
    assert expert.file.tobytes() == other.file.tobytes()


def test_sign_keeps_every_entry():
    w = vector(50, 20)
    w[3] = 0
    expert = compress({"w": w}, kind="other", quantize="sign")
    np.testing.assert_array_equal(expert.trits()["w"], np.sign(w))
    assert expert.scales[0] == pytest.approx(np.abs(w[w != 0]).mean(dtype=np.float64), rel=1e-6)
    assert expert.manifest.groups[0].density == 1


@pytest.mark.parametrize("upstream", [False, True])
def test_prune_keeps_the_values(upstream):
    state = {f"q.lora_{x}.weight": vector(8, 30) for x in "AB"}
    state |= {"classifier.weight": vector(2, 3)}
    pruned = compress(state, quantize="prune", density=0.1, upstream=upstream)
    assert isinstance(pruned, TaskVector)
    for name in ("q.lora_A.weight", "q.lora_B.weight"):
        kept = top(state[name], 24 + upstream)
        np.testing.assert_array_equal(pruned.residuals[name].values, state[name] * kept)
    np.testing.assert_array_equal(
        pruned.dense["classifier.weight"].data, state["classifier.weight"]
    )
    # The source has not changed.
    assert all(np.all(state[name] != 0) for name in state)


def test_pruned_entries_of_ia3_become_one():
    pruned = compress({"v.ia3_l": np.float32([1.5, 1.1, 0.2])}, quantize="prune", density=0.4)
    np.testing.assert_allclose(pruned.residuals["v.ia3_l"].values, [0, 0, -0.8], rtol=1e-6)
    assert pruned.residuals["v.ia3_l"].initial == "one"


def test_a_task_vector_is_a_source():
    state = {f"q.lora_{x}.weight": vector(8, 30) for x in "AB"}
    from_vector = compress(task_vector(state), density=0.3)
    assert from_vector.file.tobytes() == compress(state, density=0.3).file.tobytes()
    # A vector that is pruned already keeps exactly its entries.
    again = compress(compress(state, quantize="prune", density=0.3), quantize="stc", density=1.0)
    np.testing.assert_array_equal(
        again.trits()["q.lora_A.weight"], from_vector.trits()["q.lora_A.weight"]
    )
    with pytest.raises(MetroFastError, match="has its kind"):
        compress(task_vector(state), kind="full")


def test_a_pruned_adapter_is_a_plain_peft_folder(tmp_path: Path):
    state = {f"q.lora_{x}.weight": vector(8, 30).astype(np.float16) for x in "AB"}
    config = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "b"}).encode()
    raw = {name: RawTensor.of(array, name) for name, array in state.items()}
    write_folder(tmp_path / "adapter", raw, config)
    initial = {"q.lora_A.weight": vector(8, 30)}
    source = tmp_path / "adapter"
    pruned = compress(source, quantize="prune", density=0.1, initial=initial)
    with pytest.raises(MetroFastError, match=r"pass initial= with q\.lora_A"):
        save_plain(pruned, tmp_path / "plain")
    with pytest.raises(MetroFastError, match="are not those"):
        save_plain(pruned, tmp_path / "plain", initial={"q.lora_A.weight": vector(8, 30)})
    assert not (tmp_path / "plain").exists()
    save_plain(pruned, tmp_path / "plain", initial=initial)
    assert (tmp_path / "plain/adapter_config.json").read_bytes() == config
    plain = read_safetensors(tmp_path / "plain/adapter_model.safetensors")
    b = state["q.lora_B.weight"]
    np.testing.assert_array_equal(plain["q.lora_B.weight"].data, b * top(b, 24))
    start = initial["q.lora_A.weight"]
    moved = state["q.lora_A.weight"].astype(np.float32) - start
    expected = (start + moved * top(moved, 24)).astype(np.float16)
    np.testing.assert_array_equal(plain["q.lora_A.weight"].data, expected)
    with pytest.raises(MetroFastError, match="remove it or choose another"):
        save_plain(pruned, tmp_path / "plain", initial=initial)
    with pytest.raises(MetroFastError, match=r"no adapter_config\.json"):
        save_plain(compress(state, quantize="prune"), tmp_path / "other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantize": "int8"}, "quantize is 'int8', expected one of compeft, stc, sign, prune"),
        ({"quantize": "stc", "alpha": 2.0}, "alpha is 2.0, but quantize='stc' finds its scale"),
        ({"quantize": "prune", "alpha": 1.0}, "quantize='prune' finds"),
        ({"quantize": "sign", "density": 0.2}, r"density is 0\.2, but quantize='sign' keeps every"),
        ({"quantize": "sign", "upstream": True}, "upstream is True, but"),
        ({"upstream": True, "density": 1.0}, "leaves the weights unchanged"),
        ({"profile": "small"}, "profile is 'small', expected one of default, size"),
        ({"density": 1.5}, r"density is 1\.5"),
    ],
)
def test_options_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(MetroFastError, match=message):
        compress({"w": vector(4, 4)}, kind="other", **arguments)


@pytest.mark.filterwarnings("ignore:the update of:UserWarning")
def test_codes_of_the_published_code(golden_folder: Path):
    """Golden values of get_compressed_lora_weights, whole dicts as one vector."""
    golden = json.loads((golden_folder / "compeft_dicts.json").read_text())
    tensors = read_safetensors(golden_folder / "compeft_dicts.safetensors")
    runs = 0
    for case in golden["dicts"]:
        entries = {entry["key"]: entry for entry in case["concatenation"]}
        state = {key: tensors[f"{case['name']}|{key}"].numpy() for key in entries}
        for run in case["compress"]:
            expert = compress(
                state,
                kind="other",
                scope="global",
                upstream=True,
                density=run["k"] / 100,
                alpha=run["alpha"],
            )
            trits = expert.trits()
            assert list(trits) == run["returned_key_order"]
            for key, digest in run["codes_sha256_per_key"].items():
                assert int(np.count_nonzero(trits[key])) == run["nonzero_per_key"][key]
                assert hashlib.sha256(trits[key].tobytes()).hexdigest() == digest
            assert expert.scales[0] == pytest.approx(run["scale"], rel=2e-6)
            runs += 1
    assert runs >= 6


def golden_vectors(golden_folder: Path):
    golden = json.loads((golden_folder / "compeft_compress.json").read_text())
    for case in golden["vectors"]:
        dtype = "BF16" if case["kind"] == "bf16" else "F32"
        tensor = RawTensor.rounded(golden_input(case), dtype)
        data = np.ascontiguousarray(tensor.data)
        assert hashlib.sha256(data.tobytes()).hexdigest() == case["sha256_input_bytes"]
        yield case, tensor


@pytest.mark.filterwarnings("ignore:the update of:UserWarning")
def test_vectors_of_the_published_code(golden_folder: Path):
    """All kinds of input: ties, zeros, bfloat16; also its pruning, and its mean with signs."""
    seen = dict.fromkeys(("compeft", "prune", "stc"), 0)
    sizes = set()
    for case, tensor in golden_vectors(golden_folder):
        rtol = 1e-2 if case["dtype"] == "bfloat16" else 2e-6
        for run in case["results"]:
            options = {"kind": "other", "scope": "global", "upstream": True}
            options["density"] = run["k"] / 100
            if "compress_error" in run:
                continue  # upstream's code crashes here
            state = {"w": tensor}
            expert = compress(state, **options)
            codes = expert.trits()["w"].reshape(-1)
            assert hashlib.sha256(codes.tobytes()).hexdigest() == run["codes_sha256"]
            assert "".join(CODES[code] for code in codes[:64]) == run["first64"]
            for alpha, scale in run["scale_by_alpha"].items():
                scaled = compress(state, alpha=float(alpha), **options)
                assert scaled.scales[0] == pytest.approx(scale, rel=rtol)
            seen["compeft"] += 1
            sizes.add(case["n"])
            if "prune_only(-1)" in run:
                pruned = compress(state, quantize="prune", **options).residuals["w"]
                bits = (pruned.values + np.float32(0)).reshape(-1)
                if case["dtype"] == "bfloat16":
                    bits = (bits.view(np.uint32) >> 16).astype(np.uint16)
                digest = hashlib.sha256(bits.tobytes()).hexdigest()
                assert digest == run["prune_only(-1)"]["sha256_bytes_after_adding_plus_zero"]
                seen["prune"] += 1
            if "stc(-2)" in run:
                expert = compress(state, quantize="stc", **options)
                found = expert.scales[0] * expert.trits()["w"].reshape(-1).astype(np.float64)
                signed = run["stc(-2)"]["signed_scale"]
                # A mean near 0 has few correct digits after its terms have canceled in float32.
                error = max(rtol * abs(signed), 1e-7 * np.abs(tensor.float32()).max())
                np.testing.assert_allclose(found, codes * signed, rtol=0, atol=10 * error)
                seen["stc"] += 1
    assert min(seen.values()) >= 40, seen
    assert max(sizes) == 200_000
    assert len(sizes) >= 4, sizes


def test_the_size_profile_is_never_larger():
    for modules in (1, 12):
        state = {
            f"l{i}.lora_{x}.weight": vector(*shape)
            for i in range(modules)
            for x, shape in (("A", (16, 3000)), ("B", (3000, 16)))
        }
        default, size = (
            compress(state, density=0.05, profile=profile) for profile in ("default", "size")
        )
        assert size.nbytes <= default.nbytes
        for name, array in default.arrays().items():
            np.testing.assert_array_equal(size.arrays()[name], array)
    assert size.nbytes < default.nbytes
