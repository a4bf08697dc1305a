"""Metadata of safetensors: carried by every door that makes a plain file again, never believed."""

import itertools
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_fast import FormatError, MetroFastError, _core
from metro_fast.experts import Expert, compress, decompress, export, merge, save_plain
from metro_fast.experts.adapters.peft_folder import write_folder
from metro_fast.experts.adapters.state_file import read_state, write_safetensors
from metro_fast.experts.adapters.tensors import RawTensor, StateDict
from metro_fast.experts.compression.streamed import compress_checkpoint
from metro_fast.testing.expert_file import read_expert
from metro_fast.testing.t4_rans import load_frequencies
from shared_files import real_adapters

FREQUENCIES = load_frequencies(Path(__file__).parents[3] / "docs/t4-frequencies.csv")
CONFIG = {
    "peft_type": "LORA", "r": 4, "lora_alpha": 16, "target_modules": ["q"],
    "base_model_name_or_path": "base",
}  # fmt: skip
DIFFUSERS = {"format": "pt", "lora_adapter_metadata": json.dumps(CONFIG, indent=2)}
CLONEOFSIMO = {
    "text_encoder": '["CLIPAttention"]',
    "text_encoder:0:rank": "4",
    "<s1>": "<embed>",
}
KOHYA = {"ss_network_dim": "4", "ss_tag_frequency": '{"å\\n": 3}', "modelspec.title": "é\0\n"}
CASES = [DIFFUSERS, CLONEOFSIMO, KOHYA, {"": ""}, {"format": "np"}]


def factors(seed: int = 0) -> dict[str, RawTensor]:
    rng = np.random.default_rng(seed)
    shapes = {"lora_A": (4, 60), "lora_B": (50, 4)}
    return {
        f"base_model.model.q.{name}.weight": RawTensor(
            "F32", rng.standard_normal(shape).astype(np.float32)
        )
        for name, shape in shapes.items()
    }


def metadata_of(path: Path) -> dict[str, str] | None:
    """The metadata, as safetensors itself reads it."""
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(path, "np") as file:
        return file.metadata()


@pytest.mark.parametrize("metadata", CASES)
def test_a_file_comes_back_with_its_metadata(tmp_path: Path, metadata: dict[str, str]):
    numpy = pytest.importorskip("safetensors.numpy")
    arrays = {name: tensor.data for name, tensor in factors().items()}
    numpy.save_file(arrays, tmp_path / "lora.safetensors", metadata=metadata)
    expert = compress(tmp_path / "lora.safetensors")
    expert.save(tmp_path / "expert")
    loaded = Expert.load(tmp_path / "expert")
    assert loaded.metadata == expert.metadata == metadata
    decompress(loaded, tmp_path / "again.safetensors")
    assert metadata_of(tmp_path / "again.safetensors") == metadata
    # From the file that was made, once more: the same expert.
    assert compress(tmp_path / "again.safetensors", quantize="sign").metadata == metadata
    # The decoder that was written from the page.
    found = read_expert(expert.file.tobytes(), FREQUENCIES)
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: tensor.bytes.tobytes() for name, tensor in expert.raw().items()
    }


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
def test_a_file_of_peft_makes_an_expert_of_version_1(tmp_path: Path, metadata):
    numpy = pytest.importorskip("safetensors.numpy")
    arrays = {name: tensor.data for name, tensor in factors().items()}
    numpy.save_file(arrays, tmp_path / "lora.safetensors", metadata=metadata)
    expert = compress(tmp_path / "lora.safetensors")
    assert expert.metadata == {}
    assert expert.manifest.version == 1
    assert expert.file.tobytes() == compress(arrays).file.tobytes()
    decompress(expert, tmp_path / "again.safetensors")
    assert metadata_of(tmp_path / "again.safetensors") == {"format": "pt"}


def test_experts_of_version_1_keep_their_bytes():
    """The checksum is that of the file which the writer before version 2 made."""
    rng = np.random.default_rng(7)
    state = {
        "m.q.lora_A.weight": rng.standard_normal((4, 40)).astype(np.float32),
        "m.q.lora_B.weight": rng.standard_normal((43, 4)).astype(np.float16),
        "classifier.weight": rng.standard_normal((2, 3)).astype(np.float32),
    }
    file = compress(state, density=0.4, alpha=1.0).file
    assert (file.size, _core.crc32c(file)) == (1141, 796169193)


def test_every_door_that_makes_a_plain_file_writes_it(tmp_path: Path):
    pytest.importorskip("safetensors")
    weights = "adapter_model.safetensors"
    write_folder(tmp_path / "adapter", factors(), json.dumps(CONFIG).encode(), DIFFUSERS)
    for source in (tmp_path / "adapter", tmp_path / "adapter" / weights):
        expert = compress(source)
        assert expert.metadata == DIFFUSERS
        assert expert.config == json.dumps(CONFIG).encode()
    decompress(expert, tmp_path / "plain")
    save_plain(compress(tmp_path / "adapter", quantize="prune"), tmp_path / "pruned")
    export({"one": expert}, tmp_path / "served", dtype=np.float16)
    for folder in ("plain", "pruned", "served/one"):
        assert metadata_of(tmp_path / folder / weights) == DIFFUSERS
    pruned = compress(compress(tmp_path / "adapter", quantize="prune"))
    assert pruned.metadata == DIFFUSERS


@pytest.mark.parametrize("scope", ["role", "tensor"])
def test_a_model_in_shards_has_the_metadata_of_all(tmp_path: Path, scope: str):
    rng = np.random.default_rng(0)

    def model(folder: str, *metadata: dict[str, str]) -> Path:
        (tmp_path / folder).mkdir()
        for name, entries in zip("ab", metadata, strict=True):
            tensor = RawTensor("F32", rng.standard_normal((20, 30)).astype(np.float32))
            write_safetensors(tmp_path / folder / f"{name}.safetensors", {name: tensor}, entries)
        index = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
        (tmp_path / folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return tmp_path / folder

    base = model("base", {"of": "the base"}, {})
    tuned = model("tuned", KOHYA, KOHYA | {"b": "c"})
    options = {"density": 0.5, "scope": scope}
    expert = compress(tuned, kind="full", initial=base, **options)
    assert expert.metadata == KOHYA | {"b": "c"}
    streamed = compress_checkpoint(tuned, base, tmp_path / "streamed", **options)
    assert streamed.file.tobytes() == expert.file.tobytes()
    decompress(expert, tmp_path / "tuned.safetensors", initial=base)
    assert metadata_of(tmp_path / "tuned.safetensors") == KOHYA | {"b": "c"}
    other = model("other", {"k": "1"}, {"k": "2"})
    for refused in (
        lambda: compress(other, kind="full", initial=base),
        lambda: compress_checkpoint(other, base, tmp_path / "none"),
    ):
        with pytest.raises(FormatError, match="differ in 'k' of their metadata"):
            refused()
    assert not (tmp_path / "none").exists()


def expert_with(metadata: dict[str, str], seed: int = 0) -> Expert:
    return compress(StateDict(factors(seed), metadata))


def test_a_merge_keeps_what_all_have_and_refuses_what_it_cannot(tmp_path: Path):
    one, two = expert_with(DIFFUSERS), expert_with(DIFFUSERS, 1)
    merged = compress(merge([one, two], method="ties", space="factors"))
    assert merged.metadata == DIFFUSERS
    # Another alpha: the sum of B A has no right scaling.
    other = expert_with(DIFFUSERS | {"lora_adapter_metadata": '{"lora_alpha": 4}'}, 1)
    for members in ([one, other], [other, one], [one, one, other], [one, expert_with({}, 1)]):
        with pytest.raises(MetroFastError, match="metadata 'lora_adapter_metadata' of expert"):
            merge(members, space="factors")
    # Other ranks: what states them is written again, or refused where it cannot be.
    stated = json.loads(merge([one, two]).metadata["lora_adapter_metadata"])
    assert stated == CONFIG | {"r": 2 * CONFIG["r"], "lora_alpha": 2 * CONFIG["lora_alpha"]}
    with pytest.raises(MetroFastError, match="metadata 'lora_adapter_metadata' of expert"):
        merge([one, other])
    for config in (CONFIG | {"rank_pattern": {"q": 2}}, {"lora_alpha": 4}, [1], {"r": "4"}):
        unknown = {"lora_adapter_metadata": json.dumps(config)}
        with pytest.raises(MetroFastError, match=r"'lora_adapter_metadata'.*changes ranks"):
            merge([expert_with(unknown), expert_with(unknown, 1)])
    with pytest.raises(MetroFastError, match=r"'rank'.*changes ranks"):
        merge([expert_with({"rank": "4"}), expert_with({"rank": "4"}, 1)])
    rooted = CONFIG | {"use_rslora": True}
    both = [expert_with({"lora_adapter_metadata": json.dumps(rooted)}, i) for i in range(2)]
    stated = json.loads(merge(both).metadata["lora_adapter_metadata"])
    assert stated["lora_alpha"] / stated["r"] ** 0.5 == pytest.approx(
        CONFIG["lora_alpha"] / CONFIG["r"] ** 0.5
    )
    # What kohya's scripts record of a run differs between any two runs.
    runs = [
        expert_with({"format": "pt", "ss_seed": str(i), "ss_network_dim": "4"}, i) for i in range(2)
    ]
    with pytest.warns(UserWarning, match="does not keep the records .* experts: 'ss_seed'$"):
        merged = compress(merge(runs, space="factors"))
    assert merged.metadata == {"format": "pt", "ss_network_dim": "4"}
    with pytest.warns(UserWarning, match="state their ranks: 'ss_network_dim', 'ss_seed'$"):
        assert compress(merge(runs, space="delta")).metadata == {}
    with pytest.warns(UserWarning, match="experts: 'ss_network_dim', 'ss_seed'$"):
        merged = compress(merge([runs[0], expert_with({}, 1)], space="factors"))
    assert merged.metadata == {}


def test_a_composition_keeps_what_all_have():
    from metro_fast.experts.search.summands import Summands

    both = [expert_with(DIFFUSERS), expert_with(DIFFUSERS, 1)]
    summands = Summands(["a", "b"], both)
    summands.add(np.array([0.5, 0.5]))
    assert compress(summands.vector()).metadata == DIFFUSERS
    with pytest.raises(MetroFastError, match="of expert b differs from that of expert a"):
        Summands(["a", "b"], [both[0], expert_with({"rank": "8"}, 1)])


def test_the_limits_hold_exactly_before_and_after():
    many = {str(i): "" for i in range(4096)}
    assert Expert(expert_with(many).file).metadata == many
    # Control characters take six bytes in JSON: the manifest stays below its own limit.
    long = {"k": "\1" * ((8 << 20) - 1)}
    assert Expert(expert_with(long).file).metadata == long
    for metadata, entries, size in (
        (many | {"more": ""}, 4097, sum(map(len, many)) + 4),
        ({"k": "é" * (4 << 20)}, 1, (8 << 20) + 1),
    ):
        with pytest.raises(FormatError, match=f"has {entries} entries of {size} bytes.*at most"):
            expert_with(metadata)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_text_is_carried(metadata: dict[str, str]):
    expected = {} if metadata == {"format": "pt"} else metadata
    expert = Expert(expert_with(metadata).file)
    assert expert.metadata == expected
    text = _core.encode_safetensors([], expected or {"format": "pt"})
    places, found = _core.decode_safetensors_file(text)
    assert (places, found) == ([], expected or {"format": "pt"})


def forged(expert: Expert, version: int, manifest: bytes) -> np.ndarray:
    """The file with another version and manifest, and a checksum that fits them."""
    places = _core.decode_safetensors(expert.file)
    parts = {name: expert.file[start:end].tobytes() for name, _, _, start, end in places}
    deflate = zlib.compressobj(wbits=-15)
    parts["compeft.manifest"] = deflate.compress(manifest) + deflate.flush()
    block = parts["compeft.trits"]
    covered = struct.pack("<2I", version, len(manifest)) + parts["compeft.manifest"]
    covered += parts["compeft.scales"] + block[: 32 + 16 * int.from_bytes(block[24:28], "little")]
    crc = _core.crc32c(np.frombuffer(covered, np.uint8))
    parts["compeft.head"] = struct.pack("<4I", version, len(manifest), crc, 0)
    dtypes = {name: dtype for name, dtype, *_ in places}
    header, at = {}, 0
    for name, data in parts.items():
        size = {"U8": 1, "U32": 4, "F32": 4}[dtypes[name]]
        entry = {"dtype": dtypes[name], "shape": [len(data) // size]}
        header[name] = entry | {"data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    file = struct.pack("<Q", len(text)) + text + b"".join(parts.values())
    return np.frombuffer(file, np.uint8)


def test_hostile_metadata_is_refused_by_both_readers():
    expert = expert_with({"a": "b"})
    good = expert.manifest.to_json()
    assert Expert(forged(expert, 2, good.encode())).metadata == {"a": "b"}
    ok, second = '"metadata": {"a": "b"}', '"version": 2'
    assert ok in good
    assert second in good
    many, long = dict.fromkeys(map(str, range(5000)), ""), {"a": "b" * (8 << 20)}
    cases = [
        (2, good.replace(ok, '"metadata": {}'), "empty"),
        (2, good.replace(ok, '"metadata": {"a": 1}'), "expected a string"),
        (2, good.replace(ok, '"metadata": {"a": null}'), "expected a string"),
        (2, good.replace(ok, '"metadata": {"a": ["b"]}'), "expected a string"),
        (2, good.replace(ok, '"metadata": ["a", "b"]'), "an object of strings"),
        (2, good.replace(ok, '"metadata": null'), "an object of strings"),
        (2, good.replace(ok, '"metadata": "a"'), "an object of strings"),
        (2, good.replace(ok, '"metadata": {"a": "b", "a": "c"}'), "key appears twice"),
        (2, good.replace(ok, '"metadata": {"a": "\\ud800"}'), "manifest"),
        (2, good.replace(ok + ", ", ""), "version 2, expected 1"),
        (2, good.replace(ok, f"{ok}, {ok}"), "duplicate field"),
        (2, good.replace(ok, f'"metadata": {json.dumps(many)}'), "more than 4096"),
        (2, good.replace(ok, f'"metadata": {json.dumps(long)}'), "at most 4096 of 8388608"),
        (1, good.replace(second, '"version": 1'), "version 1, expected 2"),
        (1, good, "version 2, but the head has 1"),
        (2, good.replace(ok + ", ", "").replace(second, '"version": 1'), "but the head has 2"),
        (4, good, "version 4, this reader knows 1 to 3"),
    ]  # fmt: skip
    for version, manifest, message in cases:
        assert (version, manifest) != (2, good), message
        with pytest.raises(FormatError, match=message) as caught:
            Expert(forged(expert, version, manifest.encode()))
        assert len(str(caught.value)) < 500


def test_it_is_not_believed(tmp_path: Path):
    """Neither kinds nor scalings, names or initial values come from it."""
    claims = {"lora_adapter_metadata": '{"peft_type": "IA3", "use_dora": true}', "version": "9"}
    claims |= {"compeft.head": "[3,0,0,0]", "about": "another", "format": "compeft"}
    plain, claimed = compress(factors()), expert_with(claims)
    assert claimed.metadata == claims
    assert claimed.manifest.kind == plain.manifest.kind == "lora"
    assert {n: t.bytes.tobytes() for n, t in claimed.raw().items()} == {
        n: t.bytes.tobytes() for n, t in plain.raw().items()
    }
    claimed.save(tmp_path)
    assert (tmp_path / "adapter_model.compeft.safetensors").exists()
    assert read_state_fails(tmp_path)


def read_state_fails(folder: Path) -> bool:
    with pytest.raises(MetroFastError, match="is a compressed expert already"):
        read_state(folder / "adapter_model.compeft.safetensors")
    return True


def parse_safeloras(path: Path) -> dict[str, tuple[list[np.ndarray], list[int], list[str]]]:
    """The reader of cloneofsimo's lora_diffusion (`parse_safeloras`), with numpy in place of torch.

    Every tensor's kind, target modules and rank come from the metadata.
    """
    from safetensors import safe_open

    loras = {}
    with safe_open(path, "np") as file:
        metadata, keys = file.metadata(), sorted(file.keys(), key=lambda key: key.split(":")[0])
        for name, group in itertools.groupby(keys, lambda key: key.split(":")[0]):
            info = (metadata or {}).get(name)
            if not info:
                raise ValueError(f"Tensor {name} has no metadata - is this a Lora safetensor?")
            if info == "<embed>":
                continue
            members = list(group)
            ranks, weights = [4] * (len(members) // 2), [np.zeros(0)] * len(members)
            for key in members:
                _, index, direction = key.split(":")
                ranks[int(index)] = int(metadata[f"{name}:{index}:rank"])
                weights[2 * int(index) + (direction == "down")] = file.get_tensor(key)
            loras[name] = (weights, ranks, json.loads(info))
    return loras


def test_cloneofsimos_reader_reads_what_comes_back(tmp_path: Path):
    numpy = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    state, metadata = {"<s1>": rng.standard_normal(24).astype(np.float32)}, {"<s1>": "<embed>"}
    for name, target in (("unet", "CrossAttention"), ("text_encoder", "CLIPAttention")):
        metadata[name] = json.dumps([target])
        for i, rank in enumerate((2, 4)):
            state[f"{name}:{i}:up"] = rng.standard_normal((30, rank)).astype(np.float32)
            state[f"{name}:{i}:down"] = rng.standard_normal((rank, 40)).astype(np.float32)
            metadata[f"{name}:{i}:rank"] = str(rank)
    numpy.save_file(state, tmp_path / "lora.safetensors", metadata=metadata)
    expert = compress(tmp_path / "lora.safetensors", kind="lora", density=0.3)
    decompress(expert, tmp_path / "again.safetensors")
    before, after = (parse_safeloras(tmp_path / f"{n}.safetensors") for n in ("lora", "again"))
    arrays = expert.arrays()
    assert list(after) == ["text_encoder", "unet"]
    for name, (weights, ranks, target) in after.items():
        assert (ranks, target) == before[name][1:]
        for i, part in enumerate(weights):
            np.testing.assert_array_equal(part, arrays[f"{name}:{i // 2}:{('up', 'down')[i % 2]}"])
    np.testing.assert_array_equal(arrays["<s1>"], state["<s1>"])
    # Twice the update, in files of twice the rank, as the same reader finds it.
    merged = merge([expert, expert], method="task_arithmetic", weights=[1, 1], heads_from=0)
    save_plain(merged, tmp_path / "merged.safetensors")
    for name, (weights, ranks, target) in parse_safeloras(tmp_path / "merged.safetensors").items():
        assert (ranks, target) == ([4, 8], before[name][2])
        for i in range(2):
            up, down = after[name][0][2 * i : 2 * i + 2]
            np.testing.assert_allclose(
                weights[2 * i] @ weights[2 * i + 1], 2 * up @ down, rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("path", real_adapters("sd15_lora_analog/analog_svd_rank4.safetensors"))
@pytest.mark.filterwarnings("ignore:the update of:UserWarning")
def test_a_real_file_of_cloneofsimo_is_read_again(tmp_path: Path, path: Path):
    pytest.importorskip("safetensors")
    expert = compress(path, kind="lora", density=0.3)
    decompress(expert, tmp_path / "again.safetensors")
    before, after = parse_safeloras(path), parse_safeloras(tmp_path / "again.safetensors")
    assert {name: lora[1:] for name, lora in after.items()} == {
        name: lora[1:] for name, lora in before.items()
    }
    shapes = [[w.shape for w in loras["unet"][0]] for loras in (before, after)]
    assert shapes[0] == shapes[1]


def test_diffusers_finds_the_scaling_again(tmp_path: Path):
    """Diffusers takes alpha / r from the metadata, 16 / 4, and 1 without it."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    peft = pytest.importorskip("peft")
    import torch

    def model():
        torch.manual_seed(0)
        return diffusers.SD3Transformer2DModel(
            sample_size=8, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8,
            num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=16,
            pooled_projection_dim=16, out_channels=4,
        )  # fmt: skip

    trained = model()
    trained.add_adapter(peft.LoraConfig(r=4, lora_alpha=16, target_modules=["to_q", "to_k"]))
    for name, parameter in trained.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    trained.save_lora_adapter(tmp_path / "saved")
    for source in (trained, tmp_path / "saved"):
        expert = compress(source, quantize="sign")
        target = tmp_path / f"{type(source).__name__}.safetensors"
        decompress(expert, target)
        loaded = model()
        loaded.load_lora_adapter(
            str(tmp_path), weight_name=target.name, prefix=None, use_safetensors=True
        )
        scalings = {
            value
            for module in loaded.modules()
            if isinstance(module, peft.tuners.lora.LoraLayer)
            for value in module.scaling.values()
        }
        assert scalings == {4.0}
