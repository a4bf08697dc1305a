"""experts.compress and decompress: groups, scales, roles, real adapters, bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from malformed import PICKLE_THAT_RUNS, TRUNCATED_ADAPTER
from metro_fast import FormatError, MetroFastError
from metro_fast.experts import EXPERT_FILE, Expert, compress, decompress, fidelity
from metro_fast.experts.adapters.state_file import read_safetensors
from metro_fast.experts.adapters.updates import modules
from metro_fast.experts.file.describe import entropy
from metro_fast.testing.ternarize import ternarize as reference
from shared_files import real_adapters, shared_files

RNG = np.random.default_rng(0)


def lora(modules: int = 3, rank: int = 4, width: int = 50) -> dict[str, np.ndarray]:
    state = {}
    for i in range(modules):
        prefix = f"base_model.model.layers.{i}.q_proj"
        a = RNG.standard_normal((rank, width)).astype(np.float32)
        b = RNG.standard_normal((width, rank)).astype(np.float32) * 1e-3
        state |= {f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b}
    return state


@pytest.mark.parametrize("scope", ["role", "global", "tensor"])
@pytest.mark.parametrize("alpha", [1.0, 3.0, "least_squares"])
@pytest.mark.filterwarnings("ignore:the update of:UserWarning")
@pytest.mark.filterwarnings("ignore:group:UserWarning")
def test_each_group_is_ternarized_as_one_vector(scope, alpha):
    # 10 before 2: the order of names decides ties and layout.
    state = lora(modules=11)
    expert = compress(state, density=0.3, alpha=alpha, scope=scope)
    names = sorted(state)
    groups: dict[str, list[str]] = {}
    for name in names:
        role = "lora_A" if "lora_A" in name else "lora_B"
        groups.setdefault({"role": role, "global": "global", "tensor": name}[scope], []).append(
            name
        )
    assert [group.name for group in expert.manifest.groups] == sorted(groups)
    arrays = expert.arrays()
    assert list(arrays) == names
    for i, group in enumerate(sorted(groups)):
        flat = np.concatenate([state[name].reshape(-1) for name in groups[group]])
        trits, scale = reference(flat, density=0.3, alpha=alpha)
        assert expert.scales[i] == pytest.approx(scale, rel=1e-6)
        found = np.concatenate([arrays[name].reshape(-1) for name in groups[group]])
        np.testing.assert_array_equal(found, trits * expert.scales[i])


def test_the_bytes_depend_on_neither_threads_nor_order():
    state = lora()
    file = compress(state, num_threads=1).file.tobytes()
    backwards = dict(reversed(state.items()))
    assert compress(backwards, num_threads=3).file.tobytes() == file


def test_global_scope_erases_b_and_says_so():
    state = lora()
    with pytest.warns(UserWarning, match=r"layers\.0\.q_proj.* is erased"):
        expert = compress(state, density=0.2, scope="global")
    assert all(row.erased and row.norm_ratio == 0 for row in fidelity(state, expert))
    rows = fidelity(state, compress(state, density=0.2))
    assert [row.module for row in rows] == [f"base_model.model.layers.{i}.q_proj" for i in range(3)]
    assert not any(row.erased for row in rows)


def test_fidelity_is_that_of_the_products():
    state = lora()
    expert = compress(state, density=0.2)
    arrays = expert.arrays()
    for i, row in enumerate(fidelity(state, expert)):
        prefix = f"base_model.model.layers.{i}.q_proj"
        before, after = (
            (s[f"{prefix}.lora_B.weight"] @ s[f"{prefix}.lora_A.weight"]).ravel()
            for s in (state, arrays)
        )
        norms = np.linalg.norm(before), np.linalg.norm(after)
        assert row.cosine == pytest.approx(before @ after / norms[0] / norms[1], rel=1e-4)
        assert row.norm_ratio == pytest.approx(norms[1] / norms[0], rel=1e-4)


def test_the_estimate_is_exact_at_rank_one():
    state = lora(rank=1)
    expert = compress(state, density=0.3, alpha=2.0)
    exact = fidelity(state, expert)
    assert [row.module for row in expert.estimated_fidelity] == [row.module for row in exact]
    for estimate, row in zip(expert.estimated_fidelity, exact, strict=True):
        assert estimate.cosine == pytest.approx(row.cosine, rel=1e-5)
        assert estimate.norm_ratio == pytest.approx(row.norm_ratio, rel=1e-5)


def test_fidelity_takes_an_expert_or_its_path(tmp_path: Path):
    state = lora(modules=2)
    expert = compress(state, density=0.2)
    expert.save(tmp_path / "packed")
    assert fidelity(state, tmp_path / "packed") == fidelity(state, expert)
    for other in (None, {"w": 1}):
        with pytest.raises(TypeError, match=r"expected an Expert or the path of one"):
            fidelity(state, other)


def test_fidelity_to_something_else_is_refused():
    with pytest.raises(MetroFastError, match="does not have the tensors"):
        fidelity(lora(modules=2), compress(lora(modules=3)))


def test_a_group_without_kept_entries_is_named():
    with pytest.warns(UserWarning, match="group a is erased: none of its 3 entries"):
        expert = compress({"a": np.float32([1, 2, 3])}, kind="other", scope="tensor", density=0.3)
    assert not expert.arrays()["a"].any()
    with pytest.warns(UserWarning, match="all are equal"):
        compress({"a": np.ones(8, np.float32)}, kind="other", alpha=1.0)


def test_an_untrained_b_loses_nothing():
    state = {name: a * ("lora_A" in name) for name, a in lora().items()}
    expert = compress(state)
    assert not any(row.erased for row in fidelity(state, expert))


def test_heads_stay_dense_and_dtypes_are_kept():
    state = lora() | {
        "base_model.model.classifier.weight": RNG.standard_normal((2, 5)).astype(np.float16),
        "base_model.model.steps": np.array(7),
    }
    state = {n: a.astype(np.float16) if "lora_B" in n else a for n, a in state.items()}
    expert = compress(state)
    arrays = expert.arrays()
    assert {n: (a.dtype, a.shape) for n, a in arrays.items()} == {
        n: (a.dtype, a.shape) for n, a in state.items()
    }
    for name in ("base_model.model.classifier.weight", "base_model.model.steps"):
        np.testing.assert_array_equal(arrays[name], state[name])
    assert [entry.name for entry in expert.manifest.dense] == sorted(
        n for n in state if "lora" not in n
    )
    rows = {row["tensor"]: row for row in expert.describe()}
    assert rows["base_model.model.classifier.weight"]["bits"] == 16
    row = rows["base_model.model.layers.0.q_proj.lora_A.weight"]
    assert row["group"] == "lora_A"
    assert row["bits"] == pytest.approx(entropy(row["density"]))
    assert sum(row["density"] for n, row in rows.items() if "lora_A" in n) == pytest.approx(0.6)
    half = expert.arrays(dtype="float16")
    assert all(a.dtype == np.float16 for n, a in half.items() if "lora" in n)


def test_ia3_starts_at_one():
    values = np.float32([[1.5], [1.0], [0.1], [0.9]])
    expert = compress({"layer.ia3_l": values}, density=0.5, alpha="least_squares")
    scale = np.float32(0.7)
    assert expert.scales[0] == pytest.approx(scale)
    np.testing.assert_allclose(
        expert.arrays()["layer.ia3_l"], [[1 + scale], [1], [1 - scale], [1]], rtol=1e-6
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_full_residual_is_added_to_its_base(dtype):
    base = {f"w{i}": RNG.standard_normal((30, 20)).astype(dtype) for i in range(3)}
    tuned = {n: (w + 0.1 * RNG.standard_normal(w.shape)).astype(dtype) for n, w in base.items()}
    expert = compress(tuned, kind="full", initial=base | {"unused": np.zeros(1)}, density=0.25)
    arrays = expert.arrays(initial=base)
    for name, values in arrays.items():
        residual = expert.scales[0] * expert.trits()[name].astype(np.float32)
        expected = (base[name].astype(np.float32) + residual).astype(dtype)
        np.testing.assert_array_equal(values, expected)
        assert values.dtype == dtype
    with pytest.raises(MetroFastError, match="pass initial="):
        expert.arrays()
    with pytest.raises(MetroFastError, match="not those"):
        expert.arrays(initial=tuned)
    with pytest.raises(MetroFastError, match="initial does not have w2"):
        compress(tuned, kind="full", initial={"w0": base["w0"], "w1": base["w1"]})
    with pytest.raises(MetroFastError, match="made without"):
        compress(tuned, kind="full").arrays(initial=base)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_full_residual_of_a_scalar(dtype):
    torch = pytest.importorskip("torch")
    base = {"temperature": torch.tensor(2.0, dtype=getattr(torch, dtype))}
    tuned = {"temperature": torch.tensor(3.5, dtype=getattr(torch, dtype))}
    expert = compress(tuned, kind="full", initial=base, density=1.0)
    assert torch.equal(expert.state_dict(initial=base)["temperature"], tuned["temperature"])
    assert expert.arrays(initial=base)["temperature"].shape == ()


def test_fidelity_of_very_large_and_very_small_updates():
    for size in (1e-25, 1e22):
        weights = {"w": np.float32([3.0, 4.0]) * np.float32(size)}
        [row] = fidelity(weights, compress(weights, kind="other", density=0.5))
        assert row.cosine == pytest.approx(0.8, rel=1e-6)


def test_two_adapters_of_one_module_are_two_modules():
    names = [f"q.lora_{factor}.{name}.weight" for factor in "AB" for name in ("one", "two")]
    assert modules(dict.fromkeys(names)) == {
        "q.one": ("q.lora_A.one.weight", "q.lora_B.one.weight"),
        "q.two": ("q.lora_A.two.weight", "q.lora_B.two.weight"),
    }


def test_bfloat16_round_trip():
    torch = pytest.importorskip("torch")
    state = {n: torch.from_numpy(a).bfloat16() for n, a in lora().items()}
    expert = compress(state)
    tensors = expert.state_dict()
    assert all(t.dtype == torch.bfloat16 for t in tensors.values())
    arrays = expert.arrays()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor.float().numpy(), arrays[name])
        scale = expert.scales[int("lora_B" in name)]
        expected = torch.from_numpy(expert.trits()[name]).float() * float(scale)
        assert torch.equal(tensor, expected.bfloat16())
    assert expert.state_dict(dtype=torch.float32)[next(iter(state))].dtype == torch.float32
    base = {n: t * 0.5 for n, t in state.items()}
    expert = compress(state, initial=base)
    for name, tensor in expert.state_dict(initial=base).items():
        residual = torch.from_numpy(expert.trits()[name]).float() * float(
            expert.scales[int("lora_B" in name)]
        )
        assert torch.equal(tensor, (base[name].float() + residual).bfloat16())


# At most 1.12 times Shannon's bound plus 2 kB, in bytes (design, 6).
@pytest.mark.parametrize(
    ("folder", "density"),
    real_adapters("gpt2_tigrinya_lora", "gradience_tiny_lora", each_with=(0.05, 0.2, 0.5)),
)
@pytest.mark.filterwarnings("ignore:the update of:UserWarning")
def test_real_lora_folders(tmp_path: Path, folder: Path, density: float):
    expert = compress(folder, density=density)
    bound = entropy(density) * expert.manifest.parameters / 8
    assert expert.nbytes <= 1.12 * (bound + 2000)
    expert.save(tmp_path / "small")
    assert (tmp_path / "small/adapter_config.json").read_bytes() == (
        folder / "adapter_config.json"
    ).read_bytes()
    decompress(tmp_path / "small", tmp_path / "plain")
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    plain = read_safetensors(tmp_path / "plain/adapter_model.safetensors")
    original = read_safetensors(folder / "adapter_model.safetensors")
    assert list(plain) == list(original)
    for key, array in expert.arrays().items():
        np.testing.assert_array_equal(plain[key].data, array)
        assert plain[key].shape == original[key].shape
    if density == 0.5:
        assert min(row.cosine for row in fidelity(folder, expert)) > 0.75


@pytest.mark.filterwarnings("ignore:the update of:UserWarning")
@pytest.mark.parametrize("adapters", shared_files("adapters"))
def test_real_adapters_that_are_not_peft_folders(adapters: Path):
    torch = pytest.importorskip("torch")
    few = torch.load(adapters / "t0_3b_ia3_tfew/t03b_ia3_finish.pt", weights_only=True)
    with pytest.raises(MetroFastError, match=r"one of lora, ia3, .* these look like ia3"):
        compress(few)
    expert = compress(few, kind="ia3", alpha="least_squares")
    before = np.concatenate([few[n].numpy().ravel() - 1 for n in sorted(few)])
    after = np.concatenate([a.ravel() - 1 for a in expert.arrays().values()])
    cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
    assert cosine == pytest.approx(0.80, abs=0.01)
    prompt = np.load(adapters / "t5v11_base_prompts/sst2.npy")
    expert = compress({"prompt_embeddings": prompt}, density=0.5)
    assert (expert.manifest.kind, expert.manifest.groups[0].name) == ("prompt", "prompt")
    raw = read_safetensors(adapters / "sd15_lora_analog/analog_svd_rank4.safetensors")
    analog = {name: tensor.numpy() for name, tensor in raw.items()}
    expert = compress(analog, kind="other", scope="tensor", density=0.05)
    assert len(expert.manifest.groups) == 384
    assert expert.manifest.groups[0].name == min(analog)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: compress(3), TypeError, "source is a int"),
        (lambda: compress({}), MetroFastError, "names: none"),
        (lambda: compress({"w": np.zeros(3)}, kind="other"), MetroFastError, "no float32"),
        (lambda: compress({"w": "x"}, kind="other"), TypeError, "w is a str"),
        (lambda: compress({"w": np.zeros(3, np.complex64)}, kind="other"), TypeError, "complex64"),
        (lambda: compress({3: np.zeros(3)}, kind="other"), TypeError, "not all strings"),
        (lambda: compress({"w": np.zeros(3, np.float32)}), MetroFastError, "give kind, one of"),
        (lambda: compress(lora(), scope="layer"), MetroFastError, "scope is 'layer'"),
        (lambda: compress(lora(), kind="dora"), MetroFastError, "kind is 'dora'"),
        (lambda: compress(lora(), kind="ia3"), MetroFastError, "the names are of lora"),
        (lambda: compress(lora(), density=0), MetroFastError, "density is 0"),
        (lambda: compress(lora(), alpha="auto"), TypeError, "alpha is 'auto'"),
        (lambda: compress(lora(), num_threads=0), MetroFastError, "num_threads is 0"),
        (lambda: compress(lora(), initial={"x": np.zeros(1)}), MetroFastError, "which the source"),
        (
            lambda: compress(lora(1), initial={n: a.T for n, a in lora(1).items()}),
            MetroFastError,
            "has shape",
        ),
        (
            lambda: compress({"a.dora_scale": np.zeros(3, np.float32)} | lora()),
            MetroFastError,
            "DoRA",
        ),
        (
            lambda: compress({"a.ia3_l": np.zeros(3, np.float32)} | lora()),
            MetroFastError,
            "ia3, lora",
        ),
        (
            lambda: compress({"q.lora_A.weight": np.float32([[0, np.nan]])}),
            MetroFastError,
            r"NaN at index 1 of q\.lora_A\.weight",
        ),
        (
            lambda: compress({"w": np.float16([6e4, -6e4, 0, 0])}, kind="other", alpha=2.0),
            MetroFastError,
            "w is float16, which cannot hold a scale of 97979",
        ),
        (lambda: compress(lora()).arrays("int8"), TypeError, "dtype is int8"),
        (lambda: decompress(compress(lora()), "x"), MetroFastError, "no adapter_config"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


CONFIG = {"peft_type": "LORA", "base_model_name_or_path": "t5-small", "bias": "none"}


def write_folder(folder: Path, config: dict | bytes, weights: bytes | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    raw = config if isinstance(config, bytes) else json.dumps(config).encode()
    (folder / "adapter_config.json").write_bytes(raw)
    if weights is not None:
        (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (CONFIG | {"use_bdlora": {"nblocks": 2}}, MetroFastError, "use_bdlora is set: block"),
        (CONFIG | {"kasa_config": {"beta": 1}}, MetroFastError, "kasa_config is set: KaSA"),
        (CONFIG | {"monteclora_config": {"a": 1}}, MetroFastError, "monteclora_config"),
        (CONFIG | {"target_parameters": ["w"]}, MetroFastError, "target_parameters is set"),
        (CONFIG | {"peft_type": "LOHA"}, MetroFastError, "peft_type is LOHA"),
        ({}, MetroFastError, "peft_type is MISSING"),
        (b"{", FormatError, "not JSON"),
        (b"[]", FormatError, "holds a list"),
        (CONFIG, FileNotFoundError, "holds no weights: expected adapter_model"),
    ],
)
def test_folders_that_cannot_be_compressed(tmp_path: Path, config, error, message):
    with pytest.raises(error, match=message):
        compress(write_folder(tmp_path, config))


def test_sources_that_do_not_exist_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere: expected a PEFT folder"):
        compress(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no adapter: .*; the folder is empty$"):
        compress(tmp_path)
    for name in ("a.md", "b.txt", "c", "d", "e"):
        (tmp_path / name).mkdir() if name == "c" else (tmp_path / name).touch()
    with pytest.raises(
        FileNotFoundError, match=r"\(adapter_config\.json with .*; it holds a\.md, "
    ):
        compress(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"it holds a\.md, b\.txt, c/, d and 1 more$"):
        Expert.load(tmp_path)


def test_damaged_weights_and_pickles(tmp_path: Path):
    with pytest.raises(
        FormatError,
        match=r"adapter_model\.safetensors: the file has \d+ bytes",
    ):
        compress(write_folder(tmp_path, CONFIG, TRUNCATED_ADAPTER))
    with pytest.raises(FileNotFoundError):
        compress(tmp_path / "absent")
    torch = pytest.importorskip("torch")
    folder = write_folder(tmp_path / "pickled", CONFIG)
    weights = folder / "adapter_model.bin"
    weights.write_bytes(PICKLE_THAT_RUNS)
    with pytest.raises(FormatError, match="not a pickle of tensors alone"):
        compress(folder)
    torch.save([1], weights)
    with pytest.raises(FormatError, match="holds a list"):
        compress(folder)
    torch.save({n: torch.from_numpy(a) for n, a in lora().items()}, weights)
    assert compress(folder).manifest.base.model == "t5-small"


def test_decompress_never_leaves_both_forms_in_one_folder(tmp_path: Path):
    expert = Expert(compress(lora()).file, json.dumps(CONFIG).encode())
    expert.save(tmp_path)
    with pytest.raises(MetroFastError, match=EXPERT_FILE):
        decompress(tmp_path, tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        decompress(expert, tmp_path / "file")


def test_numpy_is_all_it_needs(tmp_path: Path):
    script = """
import sys
import numpy as np
from metro_fast.experts import Expert, compress
weights = {f"q.lora_{x}.weight": np.eye(8, dtype=np.float32) for x in "AB"}
compress(weights).save(sys.argv[1])
Expert.load(sys.argv[1]).arrays()
assert not {"torch", "peft", "transformers", "safetensors"} & set(sys.modules)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True, env=environment)
