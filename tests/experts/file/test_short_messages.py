"""Messages about hostile files: short, printable, and of the package's own errors."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from front_door import call
from metro_fast import _core
from metro_fast._shown import shown
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.experts import Expert, compress, compress_checkpoint, merge, similarity

LONG = "x" * 1_000_000
CLEAR = "\x1b[2J"
ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
MOST = 600
"""Characters of a whole message: a path, a sentence, and a few values."""


def write(path: Path, entries: dict[str, Any], data: bytes = bytes(4)) -> Path:
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def peft(folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    entries = {
        "m.q.lora_A.weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        "m.q.lora_B.weight": {"dtype": "F32", "shape": [2, 1], "data_offsets": [8, 16]},
    }
    write(folder / "adapter_model.safetensors", entries, np.ones(4, np.float32).tobytes())
    text = json.dumps({"peft_type": "LORA", **config})
    (folder / "adapter_config.json").write_text(text)
    return folder


def check(error: BaseException) -> str:
    text = str(error)
    assert len(text) <= MOST
    assert text.isprintable()
    return text


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({LONG: ONE}, "has 1000000 characters, expected at most 1000: rename the tensor"),
        ({f"{LONG}.lora_A.weight": ONE}, "has 1000014 characters"),
        ({f"{CLEAR}q.lora_A.weight": ONE}, r"the name '\x1b[2Jq.lora_A.weight' has characters"),
        ({"w\u202eq": ONE}, r"the name 'w\u202eq' has characters that cannot be printed"),
        ({"w": {**ONE, "dtype": LONG}}, "not a safetensors file, or cut"),
        ({"w": {**ONE, "shape": [1] * 100}}, "w has 100 dimensions, expected at most 64"),
        ({"w": {**ONE, "shape": [1] * 100_000}}, "w has 100,000 dimensions"),
        ({"x" * 400: ONE, "w": ONE}, "not a safetensors file, or cut"),
    ],
    ids=["long", "long-lora", "control", "bidi", "dtype", "dims", "dims-many", "overlap"],
)
def test_names_and_shapes_at_every_reader(tmp_path: Path, entries: dict[str, Any], message: str):
    file = write(tmp_path / "a.safetensors", entries)
    good = write(tmp_path / "b.safetensors", {"w": ONE})
    (tmp_path / "m").mkdir()
    write(tmp_path / "m/model.safetensors", entries)
    for attempt in (
        lambda: compress(file),
        lambda: compress(file, kind="other"),
        lambda: compress(tmp_path / "m", kind="full"),
        lambda: compress(good, kind="full", initial=file),
        lambda: compress_checkpoint(file, good, tmp_path / "out"),
        lambda: compress_checkpoint(good, tmp_path / "m", tmp_path / "out"),
    ):
        with pytest.raises(FormatError) as error:
            attempt()
        assert message in check(error.value)
    ended = call("expert", "compress", str(file), str(tmp_path / "out"))
    assert ended.status == 1
    assert len(ended.stderr) <= MOST
    assert ended.stderr.rstrip("\n").isprintable()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "config",
    [
        {"peft_type": LONG},
        {"peft_type": CLEAR},
        {"init_lora_weights": f"pissa{LONG}"},
        {"bias": LONG},
        {"lora_bias": [LONG]},
        {"r": LONG},
        {"r": 10**400},
        {"lora_alpha": [1] * 100_000},
        {"rank_pattern": {f"{LONG}(": 1}},
        {"rank_pattern": [1]},
        {"alpha_pattern": {"q": LONG}},
    ],
    ids=lambda config: "-".join(f"{k}-{str(v)[:8]!r}" for k, v in config.items()),
)
def test_values_of_a_configuration(tmp_path: Path, config: dict[str, Any]):
    folder = peft(tmp_path / "adapter", **config)

    def use() -> None:
        expert = compress(folder, density=1)
        merge([expert, expert], rank=1)

    with pytest.raises(MetroFastError) as error:
        use()
    check(error.value)


@pytest.mark.parametrize("field", ["base_model_name_or_path", "layers_to_transform", "revision"])
def test_settings_that_differ(tmp_path: Path, field: str):
    with pytest.raises(MetroFastError, match=field) as refused:
        compress(peft(tmp_path / "long", **{field: LONG + CLEAR}), density=1)
    check(refused.value)
    values = {"layers_to_transform": ([0], [1])}.get(field, ("a" + CLEAR, "b" + CLEAR))
    one, two = (
        compress(peft(tmp_path / name, **{field: value}), density=1)
        for name, value in zip(("a", "b"), values, strict=True)
    )
    assert len(repr(one)) < MOST
    assert repr(one).isprintable()
    try:
        merge([one, two])
        similarity([one, two])
    except MetroFastError as error:
        check(error)
    one.save(tmp_path / "out")
    for line in (["inspect"], ["inspect", "--verbose"], ["inspect", "--no-verify"]):
        ended = call("expert", *line, str(tmp_path / "out"))
        assert ended.status == 0
        assert CLEAR not in ended.stdout
        assert len(ended.stdout) < 5000


def test_an_index_of_shards(tmp_path: Path):
    write(tmp_path / "x.safetensors", {"w": ONE})
    for index in ({"a": f"../{LONG}"}, {"a": f"{CLEAR}/x"}, {LONG: "x.safetensors"}):
        text = json.dumps({"weight_map": index})
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(FormatError) as error:
            compress(tmp_path, kind="full")
        check(error.value)


def test_pickles_and_arrays(tmp_path: Path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.bin"
    for state in ({LONG: torch.zeros(1)}, {f"{CLEAR}w": torch.zeros(1)}, {LONG: 3}, {CLEAR: [1]}):
        torch.save(state, path)
        with pytest.raises(FormatError) as error:
            compress(path, kind="other")
        check(error.value)
    np.savez(tmp_path / "a.npz", **{LONG[:5000]: np.zeros(1, np.float32)})
    for count in (2000, 200):
        fields = [(f"f{number}", "f4") for number in range(count)]
        np.save(tmp_path / f"{count}.npy", np.zeros(1, fields))
    for name in ("a.npz", "2000.npy", "200.npy"):
        with pytest.raises((FormatError, TypeError)) as raised:
            compress(tmp_path / name, kind="other")
        check(raised.value)


def test_scales_and_names_of_an_expert(monkeypatch: pytest.MonkeyPatch):
    names = {f"layer{number}": np.float32([[number + 1, -1]]) for number in range(2000)}
    expert = compress(names, kind="other", scope="tensor", density=1)
    message = f"the scales are {[float('nan')] * 300_000}, expected one finite"

    def refuse(_: object) -> None:
        raise FormatError(message)

    with monkeypatch.context() as patch:  # the native module prints every scale
        patch.setattr(_core, "decode_expert", refuse)
        with pytest.raises(FormatError) as error:
            Expert(expert.file)
    check(error.value)
    decoded = _core.decode_expert(expert.file)
    for name in (LONG, f"{CLEAR}w"):
        manifest = decoded[0].replace('"layer7"', json.dumps(name))
        with monkeypatch.context() as patch:
            patch.setattr(_core, "decode_expert", lambda _, m=manifest: (m, *decoded[1:]))
            with pytest.raises(FormatError) as error:
                Expert(expert.file)
        check(error.value)


def test_what_is_shown():
    assert shown("layers.0.q") == "layers.0.q"
    assert shown("é 中") == "é 中"
    assert shown("a\x1b[2J\nb\u202e\ud800") == r"a\x1b[2J\nb\u202e\ud800"
    for value in ("x" * 121, "\x00" * 10**6, "\x00" * 100, ["y" * 500], "x" * 200 + "\n" * 20):
        text = shown(value)
        assert len(text) == 80
        assert text.isprintable()
        assert "..." in text
    assert shown(["a", 1]) == "['a', 1]"
