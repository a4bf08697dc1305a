"""Adapters that cannot be compressed as they are: the message names the tensor and the file."""

import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from metro_fast import FormatError, MetroFastError
from metro_fast.experts import compress, load_expert, task_vector
from metro_fast.experts.adapters.checkpoint import read_places
from metro_fast.experts.adapters.peft_folder import write_folder
from metro_fast.experts.adapters.state_file import write_safetensors
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.compression.streamed import compress_checkpoint
from shared_files import real_adapters

CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
A, B = "base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214\nsize 12345\n"


def floats(*shape: int) -> RawTensor:
    data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return RawTensor("F32", data)


def folder_of(folder: Path, state: dict[str, RawTensor], config: object = CONFIG) -> Path:
    write_folder(folder, state, json.dumps(config).encode())
    return folder


@pytest.mark.parametrize(
    ("changed", "named", "message"),
    [
        ({B: floats(0)}, B, "is empty, .*gather them before save_pretrained"),  # ZeRO-3
        ({A: floats(0)}, A, "is empty, .*gather them"),
        ({A: floats(0), B: floats(0)}, A, "is empty, .*gather them"),
        ({B: floats(30, 0)}, B, "is empty, .*gather them"),
        ({A: floats(80)}, A, r"has shape \(80,\), expected at least two .*FSDP.*gather"),  # FSDP
        ({B: floats(61)}, B, r"has shape \(61,\), expected at least two .*gather"),
        ({"base_model.model.head.weight": floats(0)}, "head.weight", "is empty, .*gather"),
        ({B: RawTensor("F64", np.ones((30, 4)))}, B, "has dtype F64, .*convert the adapter"),
        ({A: RawTensor("F64", np.ones((4, 20)))}, A, "has dtype F64, .*convert the adapter"),
        ({B: RawTensor("I8", np.ones((30, 4), np.int8))}, B, "has dtype I8, .*convert the"),
    ],
)
def test_tensors_that_are_not_a_whole_lora(tmp_path: Path, changed, named, message):
    state = {A: floats(4, 20), B: floats(30, 4)} | changed
    folder_of(tmp_path / "adapter", state)
    file = tmp_path / "adapter/adapter_model.safetensors"
    arrays = {name: tensor.data for name, tensor in state.items()}
    for source in (tmp_path / "adapter", file, arrays):
        with pytest.raises(MetroFastError, match=f"{named.replace('.', '[.]')} {message}"):
            compress(source)
    with pytest.raises(MetroFastError, match=message):
        compress(arrays, quantize="prune")


def test_what_is_kept_whole_on_purpose_may_have_any_dtype():
    state = {A: floats(4, 20).data, B: np.ones((30, 4))}
    expert = compress(state, dense=["*.lora_B.*"])
    assert expert.dense[B].dtype == "F64"
    # Integers and empty buffers beside an adapter prove nothing, nor do empty tensors of a model.
    more = {"steps": np.int64([3]), "none": np.zeros((0, 3), np.int64)}
    assert set(task_vector({A: state[A]} | more).dense) == set(more)
    whole = {"w": floats(2, 3).data, "empty": np.zeros((0, 3), np.float32)}
    assert set(compress(whole, kind="full", initial=whole).arrays(initial=whole)) == set(whole)


@pytest.mark.parametrize("shape", [(0,), (0, 4)])
def test_other_kinds_with_empty_shards(shape):
    for name in ("base_model.model.k.ia3_l", "prompt_embeddings"):
        with pytest.raises(MetroFastError, match=f"{name} is empty, .*gather"):
            compress({name: np.zeros(shape, np.float32)})


def test_an_empty_shard_of_a_whole_model(tmp_path: Path):
    for name, state in (("base", {"w": floats(3, 4)}), ("tuned", {"w": floats(0)})):
        write_safetensors(tmp_path / f"{name}.safetensors", state)
    base, tuned = tmp_path / "base.safetensors", tmp_path / "tuned.safetensors"
    for refused in (
        lambda: compress(tuned, kind="full", initial=base),
        lambda: compress_checkpoint(tuned, base, tmp_path / "out"),
    ):
        with pytest.raises(MetroFastError, match=r" w has shape \(3, 4\), .*ZeRO-3.*gather them"):
            refused()


def fp8_file(path: Path, dtype: str = "F8_E4M3") -> Path:
    header = {
        A: {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        B: {"dtype": dtype, "shape": [2, 1], "data_offsets": [8, 10]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(10))
    return path


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_a_dtype_of_8_bits_names_the_tensor_and_the_file(tmp_path: Path, dtype: str):
    folder = folder_of(tmp_path / "adapter", {})
    file = fp8_file(folder / "adapter_model.safetensors", dtype)
    message = f"adapter_model[.]safetensors: {B} has dtype {dtype}, expected .*convert it to fl"
    for read in (
        lambda: compress(folder),
        lambda: compress(file),
        lambda: read_places(file),
        lambda: compress_checkpoint(file, file, tmp_path / "out"),
    ):
        with pytest.raises(TypeError, match=message):
            read()


def test_names_of_strangers_do_not_fill_the_message(tmp_path: Path):
    long, control = "q" * 1_000_000 + ".lora_A.weight", "\x1b[2Jq.lora_A.weight"
    for name, message in ((long, "has 1000014 characters, expected"), (control, r"'\\x1b\[2Jq")):
        state = {name: floats(4, 20), B: floats(30, 4)}
        write_safetensors(tmp_path / "a.safetensors", state)
        for source in (state, tmp_path / "a.safetensors"):
            with pytest.raises(MetroFastError, match=message) as caught:
                compress(source)
            assert len(str(caught.value)) < 500
            assert "\x1b" not in str(caught.value)
        header = {name: {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}
        text = json.dumps(header).encode()
        (tmp_path / "b.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0")
        for read in (compress, read_places):
            with pytest.raises(TypeError, match="has dtype F8_E4M3") as refused:
                read(tmp_path / "b.safetensors")
            assert len(str(refused.value)) < 500
            assert "\x1b" not in str(refused.value)


def test_a_dtype_of_8_bits_in_a_pickle_or_a_state_dict(tmp_path: Path):
    torch = pytest.importorskip("torch")
    state = {A: torch.ones(4, 20), B: torch.ones(30, 4).to(torch.float8_e4m3fn)}
    with pytest.raises(TypeError, match=f"{B} has dtype torch.float8_e4m3fn, .*convert it"):
        compress(state)
    torch.save(state, tmp_path / "lora.bin")
    with pytest.raises(TypeError, match=f"lora.bin: {B} has dtype torch.float8_e4m3fn, .*conv"):
        compress(tmp_path / "lora.bin")


class Runs:
    """Something that would run code if it were unpickled."""

    def __reduce__(self):
        return (print, ("it ran",))


def other_contents() -> dict[str, tuple[bytes, str]]:
    import torch

    safetensors = io.BytesIO()
    zipped, objects = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.ones(30)}, zipped)
    torch.save({"a": Runs()}, objects)
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    safetensors.write(struct.pack("<Q", len(header)) + header + b"\0")
    return {
        "LFS": (LFS, "a Git LFS pointer, not the file itself .run `git lfs pull`"),
        "empty": (b"", "an empty file"),
        "page": (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
        "safetensors": (safetensors.getvalue(), "a safetensors file .name it .safetensors"),
        "cut": (zipped.getvalue()[:-40], "cut or damaged"),
        "text": (b"hello, this should not be here", "damaged, or another kind of file"),
        "objects": (objects.getvalue(), "reading it would run .*print"),
        "a plain pickle": (pickle.dumps({"a": Runs()}, 2), "reading it would run .*print"),
        "numpy": (pickle.dumps({"a": np.ones(3)}, 2), "reading it would run numpy"),
    }


@pytest.mark.parametrize(
    "case",
    ["LFS", "empty", "page", "safetensors", "cut", "text", "objects", "a plain pickle", "numpy"],
)
@pytest.mark.parametrize("name", ["adapter_model.bin", "lora.pt", "x.ckpt", "x.pth"])
def test_pickles_that_are_none_give_no_advice_to_unpickle(
    tmp_path: Path, case: str, name: str, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("torch")
    content, message = other_contents()[case]
    file = tmp_path / name
    file.write_bytes(content)
    sources = [file]
    if name == "adapter_model.bin":
        (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
        sources.append(tmp_path)
    for source in sources:
        with pytest.raises(FormatError, match=message) as caught:
            compress(source)
        text = str(caught.value)
        assert text.startswith(str(file))
        assert len(text) < 400 + len(str(file))
        for advice in ("weights_only", "torch.load", "trust", "arbitrary code", "add_safe_globals"):
            assert advice not in text
    assert "it ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "prompt.npy", "adapter_config.json"])
@pytest.mark.parametrize(
    ("content", "message"), [(LFS, "git lfs pull"), (b"", "empty file"), (b"<html>", "html|page")]
)
def test_pointers_under_other_names(tmp_path: Path, name: str, content: bytes, message: str):
    folder = folder_of(tmp_path / "adapter", {A: floats(4, 20), B: floats(30, 4)})
    (folder / name).write_bytes(content)
    source = folder / name if name == "prompt.npy" else folder
    if content == b"<html>" and name.endswith(".safetensors"):
        message = "not a safetensors file"
    with pytest.raises(FormatError, match=f"{name.replace('.', '[.]')}.*({message})"):
        compress(source)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"config": {"architecture": "lora", "r": 8}, "model_type": "bert",
             "model_class": "BertAdapterModel", "hidden_size": 768, "name": "x"},
            "AdapterHub",
        ),
        ({"fine_tune_type": "lora", "lora_parameters": {"rank": 8}}, "MLX"),
        ({"r": 8}, "not PEFT's"),
    ],
)  # fmt: skip
def test_configurations_of_other_libraries_are_named(tmp_path: Path, config, message: str):
    folder = folder_of(tmp_path, {A: floats(4, 20), B: floats(30, 4)}, config)
    with pytest.raises(MetroFastError, match=f"peft_type is MISSING.*{message}.*of which kind"):
        compress(folder)


@pytest.mark.parametrize("folder", real_adapters("roberta_imdb_pfeiffer"))
def test_a_real_adapter_of_adapterhub_is_named(folder: Path):
    with pytest.raises(MetroFastError, match="that of an AdapterHub adapter"):
        compress(folder)


def test_layer_replication_is_that_of_peft(tmp_path: Path):
    """Layers of the base that PEFT repeats, each with a LoRA of its own."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    from metro_fast.experts import decompress

    def base():
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
            num_attention_heads=2,
        )  # fmt: skip
        return transformers.LlamaForCausalLM(config).eval()

    config = peft.LoraConfig(r=4, target_modules=["q_proj"], layer_replication=[[0, 2], [1, 2]])
    model = peft.get_peft_model(base(), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    expert = compress(model, quantize="sign")
    assert len(expert.manifest.tensors) == 2 * 3
    decompress(expert, tmp_path / "plain")
    tokens = torch.arange(6)[None]
    stock = peft.PeftModel.from_pretrained(base(), tmp_path / "plain").eval()
    loaded = load_expert(base(), expert).eval()
    with torch.no_grad():
        expected = stock(tokens).logits
        assert torch.equal(loaded(tokens).logits, expected)
        assert not torch.allclose(base()(tokens).logits, expected, atol=1e-3)
