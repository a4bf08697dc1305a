"""experts.compress on files of several origins, tied tensors and strangers' bytes."""

import contextlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from malformed import PICKLE_THAT_RUNS, SAFETENSORS_CASES, TRUNCATED_ADAPTER
from metro_fast import FormatError, MetroFastError
from metro_fast.experts import compress, decompress, fidelity, task_vector
from metro_fast.experts.adapters.roles import role_of
from metro_fast.experts.adapters.state_file import read_npy, read_state, write_safetensors
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.adapters.tied import tied_groups
from metro_fast.experts.adapters.updates import modules
from metro_fast.experts.file.describe import entropy
from shared_files import real_adapters

RNG = np.random.default_rng(3)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def write(path: Path, state: dict[str, np.ndarray]) -> Path:
    write_safetensors(path, {name: RawTensor.of(array, name) for name, array in state.items()})
    return path


@pytest.mark.parametrize(
    ("name", "kind", "role"),
    [
        ("lora_unet_mid_block_to_q.lora_down.weight", None, "lora_A"),
        ("lora_unet_mid_block_to_q.lora_up.weight", None, "lora_B"),
        ("lora_unet_mid_block_to_q.alpha", "lora", None),
        ("unet.attn1.processor.to_q_lora.down.weight", None, "lora_A"),
        ("unet.attn1.to_q.lora_linear_layer.up.weight", None, "lora_B"),
        ("text_encoder:0:up", None, None),
        ("text_encoder:0:up", "lora", "lora_B"),
        ("mlp.down.weight", "lora", None),
        ("encoder.block.0.layer.0.SelfAttention.k.multi_lora_b", None, None),
        ("encoder.block.0.layer.0.SelfAttention.k.multi_lora_b", "ia3", "ia3"),
        ("embed.lora_embedding_B", None, "lora_B"),
        ("base_model.model.classifier.weight", "ia3", None),
    ],
)
def test_names_and_roles(name, kind, role):
    assert role_of(name, kind) == role


@pytest.mark.parametrize(
    "names",
    [
        ("to_q.lora_down.weight", "to_q.lora_up.weight"),
        ("to_q_lora.down.weight", "to_q_lora.up.weight"),
        ("unet:3:down", "unet:3:up"),
    ],
)
def test_factors_of_other_names_make_one_update(names):
    a, b = floats(4, 300), floats(20, 4)
    [module] = modules(dict.fromkeys(names))
    assert ":" + module.partition(":")[2] in ("", ":3") or module in ("to_q", "to_q_lora")
    state = dict(zip(names, (a, b), strict=True))
    expert = compress(state, kind="lora", density=0.3)
    assert [group.name for group in expert.manifest.groups] == ["lora_A", "lora_B"]
    [row] = fidelity(state, expert)
    found = expert.arrays()
    before, after = (b @ a).ravel(), (found[names[1]] @ found[names[0]]).ravel()
    norms = np.linalg.norm(before), np.linalg.norm(after)
    assert row.module == module
    assert row.cosine == pytest.approx(before @ after / norms[0] / norms[1], rel=1e-4)
    assert row.norm_ratio == pytest.approx(norms[1] / norms[0], rel=1e-4)


def test_an_erased_module_of_other_names_is_named():
    state = {"unet:3:down": floats(4, 300), "unet:3:up": 1e-4 * floats(20, 4)}
    state |= {"unet:4:down": floats(4, 300), "unet:4:up": floats(20, 4)}
    with pytest.warns(UserWarning, match=r"the update of unet:3 is erased"):
        expert = compress(state, kind="lora", scope="global", density=0.1)
    assert [row.module for row in fidelity(state, expert) if row.erased] == ["unet:3"]


def test_modules_are_erased_where_no_estimate_shows_it():
    """A keeps the ranks that B loses: each factor is kept well, their product is not."""
    a, b = floats(2, 400), floats(400, 2)
    a[1] *= 0.02
    b[:, 0] *= 0.02
    state = {"q.lora_A.weight": a, "q.lora_B.weight": b}
    with pytest.warns(UserWarning, match="the update of q is erased"):
        expert = compress(state, density=0.1)
    [estimate], [row] = expert.estimated_fidelity, fidelity(state, expert)
    assert row.erased
    assert not estimate.erased


@pytest.mark.parametrize("path", real_adapters("sd15_lora_analog/analog_svd_rank4.safetensors"))
def test_the_erased_modules_of_a_real_adapter_are_counted(path: Path):
    for scope in ("role", "tensor"):
        with pytest.warns(UserWarning, match="is erased") as caught:
            expert = compress(path, kind="lora", density=0.05, scope=scope)
        erased = sum(row.erased for row in fidelity(path, expert))
        assert f"and {erased - 3} more is erased" in str(caught[0].message)


def test_an_erased_ia3_vector_is_named():
    # Its entries are all below the threshold of the group.
    state = {"k.ia3_l": 1 + floats(200, 1), "v.ia3_l": 1 + 1e-4 * floats(200, 1)}
    with pytest.warns(UserWarning, match=r"the update of v\.ia3_l is erased"):
        expert = compress(state, density=0.2)
    rows = fidelity(state, expert)
    assert [(row.module, row.erased) for row in rows] == [("k.ia3_l", False), ("v.ia3_l", True)]
    # An untouched one has lost nothing.
    state["v.ia3_l"] = np.ones((200, 1), np.float32)
    assert not any(row.erased for row in fidelity(state, compress(state, density=0.2)))


def test_a_classifier_never_joins_the_ia3_vector():
    transformers = pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=16, num_labels=2,
    )  # fmt: skip
    model = peft.get_peft_model(
        transformers.BertForSequenceClassification(config),
        peft.IA3Config(task_type="SEQ_CLS"),
    )
    rows = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    for source in (model, rows):
        expert = compress(source, density=0.2) if source is model else None
        vector = task_vector(rows)
        assert all("ia3_l" in name for name in vector.residuals)
        assert {name.rpartition("classifier.")[2] for name in vector.dense} == {"weight", "bias"}
        if expert is not None:
            for name, array in expert.arrays().items():
                if "classifier" in name:
                    np.testing.assert_array_equal(array, rows[name].numpy())


@pytest.mark.parametrize(
    ("path", "kind", "options", "groups"),
    real_adapters(
        ("t0_3b_ia3_tfew/t03b_ia3_finish.pt", "ia3", {"kind": "ia3"}, ["ia3"]),
        (
            "sd15_lora_analog/analog_svd_rank4.safetensors",
            "lora",
            {"kind": "lora"},
            ["lora_A", "lora_B"],
        ),
        ("t5v11_base_prompts/rte.npy", "prompt", {}, ["prompt"]),
        ("roberta_imdb_pfeiffer/pytorch_adapter.bin", "other", {"kind": "other"}, ["other"]),
        ("gpt2_tigrinya_lora/adapter_model.safetensors", "lora", {}, ["lora_A", "lora_B"]),
    ),
)
@pytest.mark.filterwarnings("ignore:the update of:UserWarning")
def test_real_files(path: Path, kind, options, groups):
    if path.suffix in (".pt", ".bin"):
        pytest.importorskip("torch")
    expert = compress(path, density=0.3, **options)
    assert expert.manifest.kind == kind
    assert [group.name for group in expert.manifest.groups] == groups
    state = read_state(path)
    assert list(expert.arrays()) == sorted(state)
    rows = fidelity(path, expert)
    assert len(rows) == (len(state) // 2 if kind == "lora" else len(state))
    assert (expert.config is not None) == ("gpt2" in path.parent.name)
    # The goal of the design at 0.9 million parameters.
    bound = entropy(0.3) * expert.manifest.parameters / 8
    assert expert.nbytes <= 1.12 * (bound + 2000)


def test_dense_names_by_pattern():
    state = {"adapter_down.weight": floats(8, 20), "norm.weight": floats(20), "b.bias": floats(3)}
    expert = compress(state, kind="other", dense=("*.bias", "norm.weight"))
    assert [entry.name for entry in expert.manifest.dense] == ["b.bias", "norm.weight"]
    np.testing.assert_array_equal(expert.arrays()["norm.weight"], state["norm.weight"])
    assert [row.module for row in fidelity(state, expert)] == ["adapter_down.weight"]
    with pytest.raises(MetroFastError, match="which matches no name"):
        compress(state, kind="other", dense=("head.*",))
    with pytest.raises(TypeError, match="is the string"):
        compress(state, kind="other", dense="norm.weight")


def test_a_head_that_the_base_lacks(tmp_path: Path):
    base = {"layer.weight": floats(20, 10)}
    tuned = {"layer.weight": base["layer.weight"] + 0.1, "classifier.weight": floats(2, 20)}
    with pytest.raises(MetroFastError, match=r"does not have classifier\.weight.*dense="):
        compress(tuned, kind="full", initial=base)
    path = write(tmp_path / "base.safetensors", base)
    expert = compress(tuned, kind="full", initial=path, dense=("classifier.*",), density=0.5)
    arrays = expert.arrays(initial=base)
    np.testing.assert_array_equal(arrays["classifier.weight"], tuned["classifier.weight"])
    assert fidelity(tuned, expert, initial=path)[0].cosine > 0.5
    with pytest.raises(MetroFastError, match="pass initial="):
        fidelity(tuned, expert)


def test_an_expert_without_a_configuration_becomes_a_file(tmp_path: Path):
    base = {"w": floats(30, 20)}
    path = write(tmp_path / "base.safetensors", base)
    expert = compress({"w": base["w"] + 0.1 * floats(30, 20)}, kind="full", initial=base)
    expert.save(tmp_path / "expert")
    target = tmp_path / "tuned.safetensors"
    with pytest.raises(MetroFastError, match="pass initial="):
        decompress(tmp_path / "expert", target)
    assert not target.exists()
    decompress(tmp_path / "expert", target, initial=path)
    np.testing.assert_array_equal(read_state(target)["w"].data, expert.arrays(initial=base)["w"])
    with pytest.raises(MetroFastError, match="exists already: remove it"):
        decompress(tmp_path / "expert", target, initial=path)
    with pytest.raises(MetroFastError, match=r"no adapter_config\.json.* ends in \.safe"):
        decompress(tmp_path / "expert", tmp_path / "folder", initial=path)


@pytest.mark.parametrize("cloned", [False, True])
def test_tied_tensors_are_kept_once_and_restored(cloned):
    base_embed, tuned_embed = floats(30, 8), floats(30, 8)

    def model(embed: np.ndarray) -> dict[str, np.ndarray]:
        names = ("shared.weight", "encoder.embed_tokens.weight", "lm_head.weight")
        tied = {name: embed.copy() if cloned else embed for name in names}
        return tied | {"layer.weight": embed[:8] * 2}

    base, tuned = model(base_embed), model(tuned_embed)
    expert = compress(tuned, kind="full", initial=base, density=0.5)
    assert [t.name for t in expert.manifest.tensors] == [
        "encoder.embed_tokens.weight",
        "layer.weight",
    ]
    arrays = expert.arrays(initial=base)
    assert list(arrays) == sorted(base)
    for name in ("shared.weight", "lm_head.weight"):
        np.testing.assert_array_equal(arrays[name], arrays["encoder.embed_tokens.weight"])
    assert [row.module for row in fidelity(tuned, expert, initial=base)] == [
        "encoder.embed_tokens.weight",
        "layer.weight",
    ]
    # A base whose file has the matrix once, under another name.
    once = {name: base[name] for name in ("shared.weight", "layer.weight")}
    expert = compress(tuned, kind="full", initial=once, density=0.5)
    assert list(expert.arrays(initial=once)) == ["layer.weight", "shared.weight"]
    # A base that is not tied: two residuals.
    untied = base | {"lm_head.weight": floats(30, 8)}
    expert = compress(tuned, kind="full", initial=untied, density=0.5)
    assert list(expert.arrays(initial=untied)) == sorted(base)
    assert len(expert.manifest.tensors) == 4


def test_tied_tensors_without_a_base():
    shared = floats(5, 4)
    with pytest.warns(UserWarning, match=r"kept once \(lm_head is embed\)"):
        expert = compress({"embed": shared, "lm_head": shared}, kind="full", density=0.5)
    assert list(expert.arrays()) == ["embed"]
    # Equal values under names that are not tied by custom are two tensors.
    vector = task_vector({"embed": shared, "lm_head": shared.copy()}, kind="full")
    assert list(vector.residuals) == ["embed", "lm_head"]
    assert tied_groups({"a": np.zeros(0), "b": np.zeros(0)}) == []
    for one, other in (
        ("roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
        ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
        ("model.decoder.embed_tokens.weight", "proj_out.weight"),
        ("transformer.wte.weight", "lm_head.weight"),
    ):
        assert tied_groups({one: shared, other: shared.copy()}) == [sorted((one, other))]
        assert tied_groups({one: shared, other: shared + 1}) == []


def test_a_tied_model_of_transformers(tmp_path: Path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        vocab_size=40, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    base = transformers.T5ForConditionalGeneration(config)
    base.save_pretrained(tmp_path / "base", max_shard_size="4KB")
    assert (tmp_path / "base/model.safetensors.index.json").exists()
    tuned = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "base")
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    initial = base.state_dict()
    expert = compress(tuned.state_dict(), kind="full", initial=initial, density=0.5)
    embeddings = {"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
    names = {tensor.name for tensor in expert.manifest.tensors}
    assert len(names & embeddings) == 1
    model = transformers.T5ForConditionalGeneration(config)
    model.load_state_dict(expert.state_dict(initial=initial))
    assert model.shared.weight.data_ptr() == model.lm_head.weight.data_ptr()
    # By folders: each matrix is once in the files, and once in the expert.
    tuned.save_pretrained(tmp_path / "tuned")
    by_folder = compress(tmp_path / "tuned", kind="full", initial=tmp_path / "base", density=0.5)
    assert by_folder.scales[0] == expert.scales[0]
    assert by_folder.manifest.trits == expert.manifest.trits


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("te_text_model.dora_scale", "DoRA"),
        ("lora_unet_to_q.hada_w1_a", "LoHa"),
        ("lora_unet_to_q.lokr_w1", "LoKr"),
        ("lora_unet_conv.lora_mid.weight", "LoCon"),
        ("q.lora_diag", "KaSA"),
        ("q.lora_variant.x", "variants"),
    ],
)
def test_unsupported_configurations_are_refused_by_name(name, message):
    state = {"q.lora_A.weight": floats(2, 4), "q.lora_B.weight": floats(4, 2), name: floats(4)}
    with pytest.raises(MetroFastError, match=message):
        compress(state)


@pytest.mark.parametrize("name", ["q.lora_B.bias", "q.lora_B.default.bias", "q.lora_up.bias"])
def test_a_bias_of_b_stays_whole(name):
    values = floats(4)
    state = {"q.lora_A.weight": floats(2, 4), "q.lora_B.weight": floats(4, 2), name: values}
    expert = compress(state, density=1)
    assert list(expert.dense) == [name]
    np.testing.assert_array_equal(expert.arrays()[name], values)


def test_a_compressed_expert_is_not_a_source(tmp_path: Path):
    file = compress({"w": floats(4, 4)}, kind="other").save(tmp_path)
    with pytest.raises(MetroFastError, match=r"compressed expert already: use Expert\.load"):
        compress(file)


def test_upstream_where_the_published_code_crashes():
    for values, kept in (([3.0], 1), ([0.0, 0.0, 5.0, 0.0], 1)):
        expert = compress(
            {"w": np.float32(values)}, kind="other", upstream=True, density=0.75, alpha=1.0
        )
        assert int(np.count_nonzero(expert.trits()["w"])) == kept


def test_npy_files(tmp_path: Path):
    prompt = floats(7, 12)
    np.save(tmp_path / "a.npy", prompt)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy").data, prompt)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(prompt))
    np.testing.assert_array_equal(read_npy(tmp_path / "fortran.npy").data, prompt)
    np.save(tmp_path / "big.npy", prompt.astype(">f4"))
    np.testing.assert_array_equal(read_npy(tmp_path / "big.npy").data, prompt)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    with pytest.raises(FormatError, match="Python objects"):
        compress(tmp_path / "objects.npy")
    whole = (tmp_path / "a.npy").read_bytes()
    for cut in (0, 5, 9, 60, len(whole) - 1):
        (tmp_path / "cut.npy").write_bytes(whole[:cut])
        with pytest.raises(FormatError, match="not an array as numpy saves it"):
            compress(tmp_path / "cut.npy")
    # A header that claims 4 TB takes no memory; a header that is not valid is an error too.
    with (tmp_path / "huge.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(64))
    with pytest.raises(FormatError, match="4398046511104 bytes, but 64 follow"):
        compress(tmp_path / "huge.npy")
    (tmp_path / "bad.npy").write_bytes(whole.replace(b"(7, 12)", b"(1<<40,"))
    with pytest.raises(FormatError, match="not an array"):
        compress(tmp_path / "bad.npy")


def test_malformed_files_are_clear_errors(tmp_path: Path):
    (tmp_path / "truncated_adapter.safetensors").write_bytes(TRUNCATED_ADAPTER)
    with pytest.raises(FormatError, match=r"truncated_adapter\.safetensors: "):
        compress(tmp_path / "truncated_adapter.safetensors")
    pytest.importorskip("torch")
    (tmp_path / "pickle_calls_system.bin").write_bytes(PICKLE_THAT_RUNS)
    with pytest.raises(FormatError, match="not a pickle of tensors alone"):
        compress(tmp_path / "pickle_calls_system.bin")
    refused = 0
    for data in SAFETENSORS_CASES.values():
        path = tmp_path / "case.safetensors"
        path.write_bytes(data)
        # The whole files hold integers only, or nothing that makes an expert.
        with pytest.raises((FormatError, MetroFastError)) as caught:
            compress(path, kind="other")
        refused += isinstance(caught.value, FormatError)
    assert refused >= len(SAFETENSORS_CASES) // 2


def test_damaged_pickles_are_format_errors(tmp_path: Path):
    """Every cut, and bytes flipped all over, in both of torch's layouts."""
    torch = pytest.importorskip("torch")
    state = {"w": torch.ones(3, 4), "v": torch.zeros(2, dtype=torch.bfloat16)}
    flips = np.random.default_rng(0)
    survived = 0
    for layout in (True, False):
        path = tmp_path / f"{layout}.pt"
        torch.save(state, path, _use_new_zipfile_serialization=layout)
        assert sorted(read_state(path)) == ["v", "w"]
        whole = path.read_bytes()
        for _ in range(150):
            bad = bytearray(whole)
            if flips.random() < 0.3:
                bad = bad[: flips.integers(len(bad))]
            for _ in range(flips.integers(1, 4)):
                if bad:
                    bad[flips.integers(len(bad))] = flips.integers(256)
            path.write_bytes(bad)
            with contextlib.suppress(FormatError, TypeError):  # no other exception, and no warning
                read_state(path)
                survived += 1
    assert 0 < survived < 300
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(1))
    with pytest.raises(MetroFastError, match=r"ends in '\.pkl', expected \.safetensors, \.bin"):
        compress(tmp_path / "x.pkl")
    torch.save({"state_dict": state}, tmp_path / "nested.pt")
    with pytest.raises(FormatError, match="holds a dict named 'state_dict'"):
        compress(tmp_path / "nested.pt")


def test_folders_of_nothing(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        compress(tmp_path)
    with pytest.raises(FileNotFoundError):
        compress(tmp_path / "absent.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"w": "../x.safetensors"}}'
    )
    with pytest.raises(FormatError, match="expected a file beside it"):
        compress(tmp_path, kind="full")
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(FormatError, match="holds no weight_map"):
        compress(tmp_path, kind="full")
    with pytest.raises(TypeError, match="initial is a int"):
        compress({"w": floats(2)}, kind="full", initial=3)
