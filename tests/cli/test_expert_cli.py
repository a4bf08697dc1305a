"""metro-fast expert compress: its options, its table and its files."""

import json
import os
import re
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from metro_fast.cli.expert_compress import app
from metro_fast.cli.expert_fidelity import print_fidelity
from metro_fast.experts import Expert, ModuleFidelity, compress, fidelity
from metro_fast.experts.adapters.peft_folder import read_folder, write_folder
from metro_fast.experts.adapters.state_file import write_safetensors
from metro_fast.experts.adapters.tensors import RawTensor

RNG = np.random.default_rng(9)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    raw = {}
    for i in range(25):
        for factor, shape in (("A", (4, 40)), ("B", (40, 4))):
            name = f"base_model.model.layers.{i}.q.lora_{factor}.weight"
            raw[name] = RawTensor.of(RNG.standard_normal(shape).astype(np.float32), name)
    config = {"peft_type": "LORA", "base_model_name_or_path": "b"}
    write_folder(tmp_path / "adapter", raw, json.dumps(config).encode())
    return tmp_path / "adapter"


def test_defaults_equal_those_of_the_function(adapter: Path, tmp_path: Path):
    output = run(adapter, tmp_path / "out")
    expert = Expert.load(tmp_path / "out")
    assert expert.file.tobytes() == compress(adapter).file.tobytes()
    # 25 modules: the 10 that lost most, and one line about all.
    assert "the 10 that lost most" in output
    assert "25 modules: cosine" in output
    assert "0 erased" in output


@pytest.mark.filterwarnings("ignore:the update of:UserWarning")
@pytest.mark.parametrize(
    ("options", "alpha", "expected"),
    [
        ([], "least_squares", None),
        (["--alpha", "1"], 1.0, "raise --alpha, or leave it out for least squares\n"),
        (["--alpha", "9"], 9.0, "lower --alpha, or leave it out\n"),
        (["--density", "0.05"], "least_squares", "raise --density\n"),
    ],
)
def test_the_length_is_printed_and_a_changed_one_is_warned_of(
    adapter: Path, tmp_path: Path, options: list[str], alpha: float | str, expected: str | None
):
    result = CliRunner().invoke(app, [str(adapter), str(tmp_path / "out"), *options])
    density = 0.05 if "--density" in options else 0.2
    rows = fidelity(adapter, compress(adapter, density=density, alpha=alpha))
    length = statistics.median(row.norm_ratio for row in rows)
    printed = " ".join(result.stdout.split())
    assert re.search(rf"Length \|dW'\| / \|dW\| .* median {length:.3f}\.", printed)
    if expected is None:
        assert "times their length" not in result.stderr
        assert 0.5 < length < 0.9
    else:
        assert f"warning: the updates have {length:.3g} times their length" in result.stderr
        assert result.stderr.endswith(expected)


@pytest.mark.filterwarnings("ignore:the update of:UserWarning")
def test_every_option_reaches_the_function(adapter: Path, tmp_path: Path):
    names = [tensor.name for tensor in compress(adapter).manifest.tensors]
    start = {name: RNG.standard_normal(160).astype(np.float32) for name in names if "_A" in name}
    raw = {name: RawTensor("F32", values.reshape(4, 40)) for name, values in start.items()}
    write_safetensors(tmp_path / "s.safetensors", raw)  # A alone: B starts at 0
    config = tmp_path / "run.yaml"
    config.write_text("quantize: stc\nprofile: size\nscope: tensor\n")
    arguments = ["--density", 0.1, "--upstream", "--kind", "lora", "--threads", 1, "--rows", 3]
    arguments += [
        "--initial",
        tmp_path / "s.safetensors",
        "--dense",
        "*.7.q.*",
        "--dense",
        "*.8.q.*",
    ]
    arguments += ["--config", config, "--scope", "global"]
    output = run(adapter, tmp_path / "out", *arguments)
    expert = compress(
        adapter, quantize="stc", density=0.1, scope="global", initial=tmp_path / "s.safetensors",
        dense=("*.7.q.*", "*.8.q.*"), upstream=True,
    )  # fmt: skip
    assert Expert.load(tmp_path / "out").file.tobytes() == expert.file.tobytes()
    assert len(expert.manifest.dense) == 4
    assert "the 3 that lost most" in output
    assert "size profile: streams of 64 x S trits, S = 2048" in output
    resolved = yaml.safe_load((tmp_path / "out/resolved_config.yaml").read_text())
    assert (resolved["quantize"], resolved["scope"]) == ("stc", "global")
    assert resolved["dense"] == ["*.7.q.*", "*.8.q.*"]


OPENED: dict[str, list[str]] = {}
"""Files opened while a test listens, by its name: an audit hook cannot be taken away again."""


LAST_OPEN: list[str] = []
"""The path of the last event, if it came from `open`."""


def listen(event: str, arguments: tuple) -> None:
    if event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
        return
    path, mode, _ = arguments
    path = os.fsdecode(path)
    # `open` with an opener has two events in a row: its own, and then that of `os.open`.
    if mode is not None or [path] != LAST_OPEN:
        for paths in OPENED.values():
            paths.append(path)
    LAST_OPEN[:] = [path] if mode is not None else []


@pytest.fixture
def opened(request: pytest.FixtureRequest):
    if not OPENED:
        sys.addaudithook(listen)
        OPENED["hook"] = []
    OPENED[request.node.name] = []
    yield OPENED[request.node.name]
    del OPENED[request.node.name]


@pytest.mark.parametrize("quantize", ["compeft", "prune"])
@pytest.mark.filterwarnings("ignore:the update of:UserWarning")
def test_the_source_is_read_once(adapter: Path, tmp_path: Path, quantize: str, opened: list[str]):
    start = {
        name: RawTensor("F32", RNG.standard_normal(tensor.shape).astype(np.float32))
        for name, tensor in read_folder(adapter).state.items()
    }
    write_folder(tmp_path / "start", start, (adapter / "adapter_config.json").read_bytes())
    opened.clear()
    run(adapter, tmp_path / "out", "--quantize", quantize, "--initial", tmp_path / "start")
    for source in (adapter, tmp_path / "start"):
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            assert opened.count(str(source / name)) == 1, name


def test_help_shows_the_choices_and_a_wrong_one_is_named(adapter: Path, tmp_path: Path):
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    for choices in (
        "role|global|tensor",  # in <> since typer 0.27, in [] before
        "compeft|stc|sign|prune",
        "lora|ia3|prompt|full|other",
        "default|size",
    ):
        assert choices in text
    for option in ("--scope", "--quantize", "--kind", "--profile"):
        result = CliRunner().invoke(app, [str(adapter), str(tmp_path / "no"), option, "layer"])
        assert result.exit_code == 2
        assert "'layer' is not one of" in result.output
    result = CliRunner().invoke(app, [str(adapter), str(tmp_path / "no"), "--alpha", "big"])
    assert "alpha is 'big', expected a number or least_squares" in str(result.exception)
    assert not (tmp_path / "no").exists()


def test_prune_writes_a_plain_folder(adapter: Path, tmp_path: Path):
    output = run(adapter, tmp_path / "plain", "--quantize", "prune", "--density", 0.3)
    assert "plain PEFT folder, 2,400 of 8,000 entries kept" in output
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "resolved_config.yaml",
    ]
    result = CliRunner().invoke(
        app, [str(adapter), str(tmp_path / "no"), "--quantize", "prune", "--profile", "size"]
    )
    assert "prune has none" in str(result.exception)
    assert not (tmp_path / "no").exists()


@pytest.mark.filterwarnings("default:the update of:UserWarning")
def test_a_warning_is_one_line(tmp_path: Path):
    state = {"unet:0:down": RNG.standard_normal((4, 90)), "unet:0:up": RNG.standard_normal((9, 4))}
    state |= {"unet:1:down": state["unet:0:down"], "unet:1:up": 1e-4 * state["unet:0:up"]}
    raw = {n: RawTensor.of(array.astype(np.float32), n) for n, array in state.items()}
    write_safetensors(tmp_path / "sd.safetensors", raw)
    result = CliRunner().invoke(
        app, [str(tmp_path / "sd.safetensors"), str(tmp_path / "out"), "--kind", "lora"]
    )
    assert result.stderr.startswith("warning: the update of unet:1 is erased (cosine below 0.15)")
    assert "UserWarning" not in result.output
    assert "1 erased" in result.output


def test_a_file_is_a_source(tmp_path: Path):
    np.save(tmp_path / "prompt.npy", RNG.standard_normal((7, 30)).astype(np.float32))
    output = run(tmp_path / "prompt.npy", tmp_path / "out")
    assert "prompt_embeddings" in output
    assert Expert.load(tmp_path / "out").manifest.kind == "prompt"


def test_a_whole_model_against_its_base(tmp_path: Path):
    for name, by in (("base", 0.0), ("tuned", 0.1)):
        rng = np.random.default_rng(3)
        state = {f"w{i}": rng.standard_normal((30, 20)).astype(np.float32) for i in range(3)}
        change = np.float32(by) * RNG.standard_normal((30, 20)).astype(np.float32)
        raw = {key: RawTensor.of(array + change, key) for key, array in state.items()}
        (tmp_path / name).mkdir()
        write_safetensors(tmp_path / name / "model.safetensors", raw)
    paths = tmp_path / "tuned", tmp_path / "streamed", "--density", 0.25
    output = run(*paths, "--base", tmp_path / "base")
    assert "3 modules: cosine" in output
    run(tmp_path / "tuned", tmp_path / "whole", "--density", 0.25, "--kind", "full",
        "--initial", tmp_path / "base")  # fmt: skip
    streamed, whole = (Expert.load(tmp_path / name) for name in ("streamed", "whole"))
    assert streamed.file.tobytes() == whole.file.tobytes()
    arguments = [str(part) for part in (*paths, "--base", tmp_path / "base", "--profile", "size")]
    result = CliRunner().invoke(app, arguments)
    assert "--profile size does not go with --base" in str(result.exception)


def test_the_table_names_those_that_lost_most(capsys: pytest.CaptureFixture[str]):
    rows = [ModuleFidelity(f"m{i}", 0.9 - 0.08 * i, 0.5) for i in range(11)]
    print_fidelity(rows, 2)
    output = capsys.readouterr().out
    lines = [line for line in output.splitlines() if "erased" in line or "0.180" in line]
    assert [line.split()[1] for line in lines] == ["m10", "m9", "modules:"]
    assert "erased" in lines[0]
    assert "11 modules: cosine 0.100 to 0.900, median 0.500; 1 erased" in output.replace("\n", " ")
    print_fidelity(rows, 20)
    whole = capsys.readouterr().out
    assert whole.index("m0 ") < whole.index("m10 ")
    print_fidelity([], 20)
    assert capsys.readouterr().out == ""


def test_factors_without_a_product_are_refused_before_anything_is_written(tmp_path: Path):
    raw = {
        f"q.lora_{side}.weight": RawTensor.of(np.ones((5, 7), np.float32), side) for side in "AB"
    }
    write_safetensors(tmp_path / "odd.safetensors", raw)
    result = CliRunner().invoke(app, [str(tmp_path / "odd.safetensors"), str(tmp_path / "out")])
    assert "q.lora_A.weight has shape (5, 7) and q.lora_B.weight" in str(result.exception)
    assert not (tmp_path / "out").exists()
