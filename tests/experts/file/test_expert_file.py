"""Expert files: an independent decoder reads them, damage is refused, writes are atomic."""

import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metro_fast.testing.expert_file
from malformed import PICKLE_THAT_RUNS, SAFETENSORS_CASES, TRUNCATED_ADAPTER, plain_adapter
from metro_fast import FormatError, MetroFastError
from metro_fast.experts import EXPERT_FILE, Expert, compress
from metro_fast.experts.adapters.state_file import read_safetensors
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.testing.expert_file import crc32c, read_expert
from metro_fast.testing.pack import pack
from metro_fast.testing.t4_rans import load_frequencies
from shared_files import real_adapters

FREQUENCIES = load_frequencies(Path(__file__).parents[3] / "docs/t4-frequencies.csv")


def example(count: int = 40, seed: int = 0) -> Expert:
    rng = np.random.default_rng(seed)
    return compress(
        {
            "m.q.lora_A.weight": rng.standard_normal((4, count)).astype(np.float32),
            "m.q.lora_B.weight": rng.standard_normal((count + 3, 4)).astype(np.float16),
            "classifier.weight": rng.standard_normal((2, 3)).astype(np.float32),
        },
        density=0.4,
    )


def same(left: Expert, right: Expert) -> bool:
    arrays, others = left.arrays(), right.arrays()
    return (
        left.manifest == right.manifest
        and list(arrays) == list(others)
        and all(np.array_equal(arrays[name], others[name]) for name in arrays)
    )


def assert_an_independent_decoder_reads(
    expert: Expert, initial: dict[str, np.ndarray] | None = None
) -> set[int]:
    """Compare with the decoder of metro_fast.testing; returns the codings of the streams."""
    found = read_expert(expert.file.tobytes(), FREQUENCIES, initial)
    raw = expert.raw(initial=initial)
    assert set(found) == set(raw)
    for name, tensor in raw.items():
        assert found[name].shape == tensor.shape
        assert found[name].tobytes() == tensor.bytes.tobytes(), name
    places = metro_fast._core.decode_safetensors(expert.file)
    (block,) = (expert.file[start:] for name, _, _, start, _ in places if name == "compeft.trits")
    return set(block[32 + 8 : 32 + 16 * int(block[24]) : 16].tolist())


@pytest.mark.filterwarnings("ignore:the update of:UserWarning")
def test_a_decoder_written_from_the_page_reads_everything():
    """Every coding, dtype and initial value, in fewer than 150 lines that are not empty."""
    decoder = Path(metro_fast.testing.expert_file.__file__)
    assert len([line for line in decoder.read_text().splitlines() if line.strip()]) < 150
    rng = np.random.default_rng(3)
    codings = assert_an_independent_decoder_reads(example(300))
    ia3 = {"m.ia3_l": np.float32([[1.5], [0.2], [1.0], [0.9]]), "empty": np.zeros((0, 3), np.int64)}
    codings |= assert_an_independent_decoder_reads(compress(ia3, density=0.5))
    half = RawTensor(
        "BF16", (rng.standard_normal((70, 90)).astype("<f4").view("<u4") >> 16).astype("<u2")
    )
    for density in (0.001, 0.05, 0.3, 1.0):
        states = {
            "b": half,
            "w": rng.standard_normal((210, 200)).astype(np.float16),
            "x": half.float32(),
        }
        expert = compress(states, kind="other", density=density, scope="tensor")
        codings |= assert_an_independent_decoder_reads(expert)
    zero = compress({"w": np.float32([1, 2]), "z": np.zeros(200_000, np.float32)}, kind="other")
    codings |= assert_an_independent_decoder_reads(zero)
    assert codings == {0, 1, 2}
    before = {"w": rng.standard_normal((50, 9)).astype(np.float32)}
    after = {"w": before["w"] + rng.standard_normal((50, 9)).astype(np.float32)}
    assert_an_independent_decoder_reads(compress(after, kind="full", initial=before), before)


@pytest.mark.parametrize("folder", real_adapters("gpt2_tigrinya_lora", "gradience_tiny_lora"))
def test_a_decoder_written_from_the_page_reads_real_experts(folder: Path):
    state = read_safetensors(folder / "adapter_model.safetensors")
    some = dict(list(state.items())[:6])
    assert_an_independent_decoder_reads(compress(some, density=0.2))


def test_safetensors_itself_reads_the_container():
    safetensors = pytest.importorskip("safetensors.numpy")
    expert = example()
    tensors = safetensors.load(expert.file.tobytes())
    assert {name: t.dtype.name for name, t in tensors.items()} == {
        "compeft.head": "uint32",
        "compeft.manifest": "uint8",
        "compeft.scales": "float32",
        "compeft.trits": "uint8",
        "dense.classifier.weight": "float32",
    }
    text = zlib.decompress(tensors["compeft.manifest"].tobytes(), wbits=-15)
    canonical = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert canonical.encode() == text
    np.testing.assert_array_equal(
        tensors["dense.classifier.weight"], expert.arrays()["classifier.weight"]
    )


def test_save_and_load(tmp_path: Path):
    expert = example()
    path = expert.save(tmp_path / "a/b")
    assert path == tmp_path / "a/b" / EXPERT_FILE
    assert list(path.parent.iterdir()) == [path]
    for source in (path.parent, path, str(path)):
        loaded = Expert.load(source)
        assert same(loaded, expert)
        loaded.verify()
    assert path.read_bytes() == expert.file.tobytes() == example().file.tobytes()
    assert expert.nbytes == path.stat().st_size
    example(seed=1).save(path.parent)
    assert not same(Expert.load(path), expert)


def test_every_cut_is_noticed():
    file = example(10).file
    for end in range(file.size):
        with pytest.raises(FormatError):
            Expert(file[:end])


def test_flipped_bits_are_noticed_or_harmless():
    expert = example(10)
    for at in range(expert.file.size):
        damaged = expert.file.copy()
        damaged[at] ^= 1 << at % 8
        try:
            read = Expert(damaged)
            read.verify()
        except FormatError:
            continue
        assert same(read, expert), at


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_splices_are_noticed_or_harmless(data):
    expert, other = example(10), example(30, seed=1)
    start = data.draw(st.integers(0, expert.file.size))
    end = data.draw(st.integers(start, expert.file.size))
    source = data.draw(st.integers(0, other.file.size))
    middle = other.file[source : source + end - start]
    spliced = np.concatenate([expert.file[:start], middle, expert.file[end:]])
    try:
        read = Expert(spliced)
        read.verify()
    except FormatError:
        return
    assert same(read, expert)


def rebuilt(expert: Expert, **changes: bytes) -> np.ndarray:
    """The file with parts replaced and the head's checksum corrected, as a forger would."""
    file = expert.file.tobytes()
    (length,) = struct.unpack_from("<Q", file)
    header = json.loads(file[8 : 8 + length])
    header.pop("__metadata__")
    parts = {
        name: file[8 + length + entry["data_offsets"][0] : 8 + length + entry["data_offsets"][1]]
        for name, entry in header.items()
    }
    text = changes.pop("manifest_json", None)
    if text is not None:
        deflate = zlib.compressobj(wbits=-15)
        parts["compeft.manifest"] = deflate.compress(text) + deflate.flush()
    parts |= {f"compeft.{name}": value for name, value in changes.items()}
    if "head" not in changes:
        version, inflated, _, _ = struct.unpack("<4I", parts["compeft.head"])
        inflated = inflated if text is None else len(text)
        block = parts["compeft.trits"]
        (streams,) = struct.unpack_from("<I", block, 24)
        covered = struct.pack("<2I", version, inflated) + parts["compeft.manifest"]
        covered += parts["compeft.scales"] + block[: 32 + 16 * streams]
        crc = crc32c(covered)
        parts["compeft.head"] = struct.pack("<4I", version, inflated, crc, 0)
    at = 0
    for name, entry in header.items():
        size = {"U8": 1, "U32": 4, "F32": 4}[entry["dtype"]]
        if name.startswith("compeft."):
            entry["shape"] = [len(parts[name]) // size]
        entry["data_offsets"] = [at, at + len(parts[name])]
        at += len(parts[name])
    text = json.dumps(header).encode()
    file = struct.pack("<Q", len(text)) + text + b"".join(parts[name] for name in header)
    return np.frombuffer(file, np.uint8)


def manifest_of(expert: Expert) -> dict:
    return json.loads(expert.manifest.to_json())


def test_forging_is_possible_so_that_the_refusals_below_mean_something():
    expert = example()
    assert same(Expert(rebuilt(expert)), expert)
    fields = manifest_of(expert) | {"kind": "other"}
    forged = Expert(rebuilt(expert, manifest_json=json.dumps(fields).encode()))
    assert forged.manifest.kind == "other"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["tensors"][1].update(start=0), "starts at 0, expected 160"),
        (lambda m: m["tensors"][0].update(shape=[2**20, 2**20]), "starts at|trits"),
        (lambda m: m["tensors"][0].update(shape=[2**40, 2**40]), "impossible shape"),
        (lambda m: m["tensors"][0].update(shape=[-1, 4]), "manifest"),
        (
            lambda m: m["tensors"][0].update(group=7),
            "to group 7, expected an index below 2",
        ),
        (lambda m: m["tensors"][0].update(dtype="I8"), "dtype"),
        (lambda m: m["tensors"][0].update(name="z"), "ascending"),
        (lambda m: m["tensors"].pop(), "trits"),
        (lambda m: m["groups"].pop(), "to group 1, expected an index below 1"),
        (lambda m: m["groups"].append(m["groups"][0]), "scales"),
        (lambda m: m["dense"].pop(), "does not name"),
        (lambda m: m["dense"][0].update(shape=[3, 2]), "dense.classifier.weight is F32"),
        (lambda m: m["dense"][0].update(crc32c=1), "checksum"),
        (lambda m: m.update(version=2), "version 2"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m.pop("scope"), "scope"),
        (lambda m: m["base"].update(initial_crc32c=5), "initial"),
    ],
)
def test_forged_manifests_are_refused(change, message):
    expert = example()
    fields = manifest_of(expert)
    change(fields)
    with pytest.raises(FormatError, match=message):
        Expert(rebuilt(expert, manifest_json=json.dumps(fields).encode()))


def test_an_inflate_bomb_is_refused():
    expert = example()
    spaces = expert.manifest.to_json().encode() + b" " * (65 << 20)
    with pytest.raises(FormatError, match="inflate"):
        Expert(rebuilt(expert, manifest_json=spaces))
    for claim in (10, 2**31):
        with pytest.raises(FormatError, match=r"inflate|checksum"):
            Expert(rebuilt(expert, head=struct.pack("<4I", 1, claim, 0, 0)))


def test_other_versions_are_refused_by_name():
    expert = example()
    for words in ((4, 0, 0, 0), (4, 0), (0,)):
        with pytest.raises(FormatError, match=f"version {words[0]}, this reader knows 1 to 3"):
            Expert(rebuilt(expert, head=struct.pack(f"<{len(words)}I", *words)))


def test_trits_between_tensors_are_noticed_by_verify():
    expert = compress({"w": np.arange(1, 6, dtype=np.float32)}, kind="other", density=0.5)
    trits = np.zeros(32, np.int8)
    trits[7] = 1
    block = pack(trits, "bitmask", 2048, FREQUENCIES)
    forged = Expert(rebuilt(expert, trits=block))
    with pytest.raises(FormatError, match="trit 7 is between"):
        forged.verify()


@pytest.mark.parametrize("scale", [-1.0, np.nan, np.inf])
def test_impossible_scales_are_refused(scale):
    scales = np.array([0.5, scale], "<f4").tobytes()
    with pytest.raises(FormatError, match="scales"):
        Expert(rebuilt(example(), scales=scales))


def test_foreign_files_are_named(tmp_path: Path):
    path = tmp_path / EXPERT_FILE

    def refusal(data: bytes) -> str:
        path.write_bytes(data)
        with pytest.raises(FormatError) as caught:
            Expert.load(path)
        return str(caught.value)

    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    assert "git lfs pull" in refusal(pointer)
    assert "pickle" in refusal(pickle.dumps({"a": 1}))
    assert "empty" in refusal(b"")
    for data in (*SAFETENSORS_CASES.values(), PICKLE_THAT_RUNS, TRUNCATED_ADAPTER):
        refusal(data)
    assert "this is not an expert of metro_fast" in refusal(plain_adapter())


def test_missing_files_and_plain_folders(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        Expert.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Expert.load(tmp_path / "absent")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="compress it first"):
        Expert.load(tmp_path)


def test_a_stale_plain_adapter_is_not_left_beside_it(tmp_path: Path):
    for name in ("adapter_model.safetensors", "adapter_model.bin", "adapter_config.json"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(b"x")
        with pytest.raises(MetroFastError, match=name):
            example().save(folder)
        assert list(folder.iterdir()) == [folder / name]


def test_a_save_never_pairs_weights_with_the_configuration_of_another_expert(tmp_path: Path):
    weights = example().file
    Expert(weights, b'{"lora_alpha": 16}').save(tmp_path)
    Expert(weights, b'{"lora_alpha": 16}').save(tmp_path)
    with pytest.raises(MetroFastError, match="another adapter_config"):
        Expert(weights, b'{"lora_alpha": 32}').save(tmp_path)
    assert Expert.load(tmp_path).config == b'{"lora_alpha": 16}'


def test_an_unwritable_folder_is_an_os_error(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        example().save(tmp_path / "file")
    if os.geteuid() == 0:
        # Even root cannot write here.
        with pytest.raises(OSError, match="/proc/self"):
            example().save("/proc/self")
        return
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        example().save(tmp_path)


KILLS = int(os.environ.get("METRO_FAST_KILLS", "8"))
_SAVER = """
import sys
import numpy as np
from metro_fast.experts import Expert
files = [np.fromfile(path, np.uint8) for path in sys.argv[2:]]
experts = [Expert(file) for file in files]
print("ready", flush=True)
while True:
    for expert in experts:
        expert.save(sys.argv[1])
"""


def test_a_killed_save_leaves_the_old_file_or_the_new_one(tmp_path: Path):
    folder = tmp_path / "expert"
    whole = []
    for i in range(2):
        expert = example(40_000, seed=i)
        (tmp_path / f"{i}").write_bytes(expert.file.tobytes())
        whole.append(expert.file.tobytes())
    found = Counter()
    for i in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-c", _SAVER, folder, tmp_path / "0", tmp_path / "1"],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.01 + 0.0071 * (i % 9) + 0.0007 * i)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if (folder / EXPERT_FILE).exists():
            # A temporary file that a killed save leaves does not disturb the next save.
            found[whole.index(Expert.load(folder).file.tobytes())] += 1
    assert found
    left = len(list(folder.glob(".*.tmp")))
    print(f"{KILLS} kills: one file {found[0]} times, the other {found[1]}; {left} temporary files")
