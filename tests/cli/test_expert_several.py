"""metro-fast expert compress with several sources: names, table, JSON, refusals, one screen."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from front_door import call
from metro_fast.cli import expert_compress_sources
from metro_fast.cli.expert_compress_sources import folder_names
from metro_fast.experts import Expert, compress, fidelity
from metro_fast.experts.adapters.peft_folder import write_folder
from metro_fast.experts.adapters.tensors import RawTensor

EXPERT, CONFIG = "adapter_model.compeft.safetensors", "adapter_config.json"


def write(folder: Path, layers: int = 2, name: str = "layers.{}.self_attn.q_proj") -> None:
    """A LoRA of Llama's names with random weights."""
    rng = np.random.default_rng(len(str(folder)) + layers)
    raw = {}
    for layer in range(layers):
        for factor, shape in (("A", (4, 64)), ("B", (64, 4))):
            key = f"base_model.model.model.{name.format(layer)}.lora_{factor}.weight"
            raw[key] = RawTensor.of(rng.standard_normal(shape).astype(np.float32), key)
    config = {"peft_type": "LORA", "base_model_name_or_path": "org/base"}
    write_folder(folder, raw, json.dumps(config).encode())


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """Two adapters of the same folder name, one of another, a prompt and what cannot be read."""
    for path in ("a/math", "b/math", "law"):
        write(tmp_path / path)
    np.save(tmp_path / "sst2.npy", np.random.default_rng(1).standard_normal((8, 64), np.float32))
    (tmp_path / "notes.md").write_text("no adapter")
    return tmp_path


def run(room: Path, line: str, status: int = 0):
    ended = call("expert", *line.split(), folder=room, COLUMNS="80")
    assert ended.status == status, (ended.stdout, ended.stderr)
    if "--json" not in line:
        assert max(map(len, ended.stdout.splitlines() or [""])) <= 80
    return ended


def test_each_source_gets_a_folder_of_its_name_and_the_bytes_of_its_own(room: Path):
    ended = run(room, "compress a/math b/math law sst2.npy out --density 0.1 --scope tensor")
    made = {"a-math": "a/math", "b-math": "b/math", "law": "law", "sst2": "sst2.npy"}
    assert sorted(path.name for path in (room / "out").iterdir()) == sorted(made)
    for name, source in made.items():
        alone = compress(room / source, density=0.1, scope="tensor")
        assert (room / "out" / name / EXPERT).read_bytes() == alone.file.tobytes()
        resolved = yaml.safe_load((room / "out" / name / "resolved_config.yaml").read_text())
        assert (resolved["source"], resolved["target"]) == (source, f"out/{name}")
        rows = fidelity(room / source, alone)
        line = next(row for row in ended.stdout.splitlines() if f" {name} " in row)
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        assert cells == [
            name,
            f"{alone.nbytes:,}",
            f"{alone.ratio:.1f}x",
            f"{np.median([row.cosine for row in rows]):.3f}",
            f"{np.median([row.norm_ratio for row in rows]):.3f}",
            f"{sum(row.erased for row in rows)} of {len(rows)}",
        ]
    assert "4 written" in ended.stdout


@pytest.mark.parametrize("order", ["notes.md law nowhere", "nowhere notes.md law"])
def test_a_refused_source_stops_no_other_and_is_named(room: Path, order: str):
    ended = run(room, f"compress {order} out", status=1)
    assert [path.name for path in (room / "out").iterdir()] == ["law"]
    assert "1 written" in ended.stdout
    assert "2 refused" in ended.stdout
    assert ended.stdout.count(" refused ") == 2
    lines = ended.stderr.splitlines()
    assert sorted(line.partition(": ")[2].partition(":")[0] for line in lines) == [
        "notes.md",
        "nowhere",
    ]
    assert any("notes.md ends in '.md', expected .safetensors" in line for line in lines)


def test_patterns(room: Path):
    ended = run(room, "compress */math law out")
    assert "3 written" in ended.stdout
    one = run(room, "compress l*w single --quiet")
    assert (one.stdout, one.stderr) == ("", "")
    assert (room / "single" / EXPERT).exists()  # one source is the target itself
    for line, message in (
        ("compress none* out2", "none* matches no file and no folder"),
        ("compress law ./law out2", "law is given twice: leave one out"),
        ("compress l* law out2", "law is given twice: leave one out"),
        (
            "compress a/math b/math law",
            "law holds adapter_model.safetensors, but the last argument",
        ),
        ("compress law a/math sst2.npy", "sst2.npy: File exists"),
    ):
        assert message in run(room, line, status=1).said
        assert not (room / "out2").exists()


def test_names_are_short_and_different():
    places = ["/r/a/adapter", "/r/b/adapter", "/r/c.npy", "/r/c.npz", "/s/a/adapter", "/r/x"]
    names = folder_names([Path(place) for place in places])
    assert names == ["r-a-adapter", "b-adapter", "c.npy", "c.npz", "s-a-adapter", "x"]


def test_an_expert_is_replaced_on_request_alone(room: Path):
    run(room, "compress law out --quiet")
    before = {path.name: path.read_bytes() for path in (room / "out").iterdir()}
    refused = run(room, "compress a/math out", status=1)
    assert f"out holds {EXPERT} already: give --replace to overwrite it" in refused.said
    assert {path.name: path.read_bytes() for path in (room / "out").iterdir()} == before
    # Another adapter, with another configuration: both files are the new ones.
    (room / "a/math" / CONFIG).write_text('{"peft_type": "LORA", "r": 4}')
    run(room, "compress a/math out --replace --quiet")
    assert Expert.load(room / "out").file.tobytes() == compress(room / "a/math").file.tobytes()
    assert (room / "out" / CONFIG).read_bytes() == (room / "a/math" / CONFIG).read_bytes()
    # A plain adapter is never replaced, nor is a pruned one.
    for line in ("compress law law --replace", "compress a/math law --replace"):
        assert "a plain adapter, which is not replaced" in run(room, line, status=1).said
    run(room, "compress law pruned --quantize prune --quiet")
    line = "compress law pruned --quantize prune --replace"
    assert "leave --replace out" in run(room, line, status=1).said
    # Of several, those that exist are refused by name.
    run(room, "compress law many/law --quiet")
    ended = run(room, "compress law b/math many", status=1)
    assert "refused: law: many/law holds" in ended.stderr
    assert (room / "many/math" / EXPERT).exists()
    assert "2 written" in run(room, "compress law b/math many --replace").stdout


def test_an_expert_stays_if_its_replacement_cannot_be_written(
    room: Path, monkeypatch: pytest.MonkeyPatch
):
    run(room, "compress law out --quiet")
    before = {path.name: path.read_bytes() for path in (room / "out").iterdir()}
    (room / "a/math" / CONFIG).write_text('{"peft_type": "LORA", "r": 4}')

    def full(path: Path, _: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(expert_compress_sources, "write_atomically", full)
        ended = run(room, "compress a/math out --replace", status=1)
    assert "No space left on device" in ended.said
    assert {path.name: path.read_bytes() for path in (room / "out").iterdir()} == before


def test_a_large_adapter_is_one_screen(room: Path):
    write(room / "llama", 64)
    ended = run(room, "compress llama out")
    assert len(ended.stdout.splitlines()) <= 24
    # Every layer once, without the part of the names that all have.
    assert "the 10 that lost most, in base_model.model.model.layers:" in ended.stdout
    full = run(room, "compress llama verbose --verbose").stdout
    assert len(full.splitlines()) > 128 + 64
    assert "63.self_attn.q_proj.lora_B" in full
    shown = run(room, "inspect out")
    assert len(shown.stdout.splitlines()) <= 24
    assert "layers.*.self_attn.q_proj" in shown.stdout.replace("tensors in base_model.model.", "")
    assert len(run(room, "inspect out --verbose").stdout.splitlines()) > 128


def test_json_has_everything_and_nothing_else_is_printed(room: Path):
    ended = run(room, "compress law sst2.npy nowhere out --json --scope tensor", status=1)
    found = json.loads(ended.stdout)
    assert list(found) == ["version", "experts", "refused"]
    assert found["version"] == 1
    law, prompt = found["experts"]
    expert = compress(room / "law", scope="tensor")
    rows = fidelity(room / "law", expert)
    assert law["source"] == "law"
    assert law["target"] == "out/law"
    assert (law["kind"], prompt["kind"]) == ("lora", "prompt")
    assert law["bytes"] == expert.nbytes
    assert law["parameters"] == expert.manifest.parameters
    assert law["ratio"] == expert.ratio
    assert law["bits_per_parameter"] == expert.bits_per_parameter
    assert [group["name"] for group in law["groups"]] == [g.name for g in expert.manifest.groups]
    assert [group["scale"] for group in law["groups"]] == expert.scales.tolist()
    kept = law["fidelity"]
    assert kept["exact"] is True
    assert [row["module"] for row in kept["modules"]] == [row.module for row in rows]
    assert [row["cosine"] for row in kept["modules"]] == [row.cosine for row in rows]
    assert [row["norm_ratio"] for row in kept["modules"]] == [row.norm_ratio for row in rows]
    assert kept["cosine"]["lowest"] == min(row.cosine for row in rows)
    assert kept["erased"] == 0
    assert found["refused"][0]["source"] == "nowhere"
    assert found["refused"][0]["reason"].startswith("there is no nowhere: expected")
    pruned = json.loads(run(room, "compress law p --quantize prune --json").stdout)["experts"][0]
    assert pruned["pruned"] == {"entries_kept": 204, "entries": 1024}
    shown = json.loads(run(room, "inspect out/law --json").stdout)
    assert shown["bytes"] == expert.nbytes
    assert [row["tensor"] for row in shown["tensors"]] == [t.name for t in expert.manifest.tensors]


def test_pruned_sources_are_plain_folders_and_files(room: Path):
    ended = run(room, "compress law sst2.npy out --quantize prune --density 0.25")
    found = sorted(str(path.relative_to(room)) for path in room.glob("out/**/*.safetensors"))
    assert found == ["out/law/adapter_model.safetensors", "out/sst2.safetensors"]
    assert ended.stdout.count("25.0% kept") == 2
    ended = run(room, "compress sst2.npy one.safetensors --quantize prune --density 0.25")
    assert ended.stdout == "one.safetensors: plain tensors, 128 of 512 entries kept\n"
    assert (room / "one.safetensors").read_bytes() == (room / found[1]).read_bytes()


def test_options_of_printing_exclude_each_other(room: Path):
    for command in ("compress law out", "inspect out"):
        ended = run(room, f"{command} --json --quiet", status=1)
        assert "--json does not go with --quiet: leave one of them out" in ended.said
    assert not (room / "out").exists()


@pytest.mark.parametrize("name", ["[red]q[/red]", "a:tada:b", "[/]", "q[0].w"])
def test_names_are_printed_letter_by_letter(room: Path, name: str):
    write(room / "odd", 1, name + ".{}.q")
    ended = run(room, "compress odd out --verbose")
    assert name in ended.stdout
    many = f"odd {name.replace('/', '')}x"
    write(room / many.split()[1])
    assert many.split()[1] in run(room, f"compress {many} several").stdout
    assert name in run(room, "inspect out").stdout


def test_warnings_name_their_source(room: Path):
    ended = run(room, "compress law a/math out --alpha 1 --quiet")
    lines = ended.stderr.splitlines()
    assert ended.stdout == ""
    assert [line.split(": ")[:2] for line in lines] == [["warning", "law"], ["warning", "math"]]
    assert all("times their length" in line and "raise --alpha" in line for line in lines)


def test_inspect_shows_what_is_lost(room: Path):
    run(room, "compress law out --quiet")
    run(room, "inspect out --quiet --html plain.html")
    plain = (room / "plain.html").read_text()
    assert "What is lost" not in plain
    assert "can be seen with the adapter" in plain
    run(room, "inspect out --quiet --html lost.html --adapter law")
    page = (room / "lost.html").read_text()
    for row in fidelity(room / "law", room / "out"):
        layer = row.module.removeprefix("base_model.model.").rpartition(".self_attn")[0]
        assert f"{layer}, self_attn.q_proj: {row.cosine:.3f}</title>" in page
        assert f"{layer}, self_attn.q_proj: {row.norm_ratio:.3f}</title>" in page
    for label in ("cosine between the update before and after", ">modules</text>"):
        assert label in page
    assert (
        "--adapter does nothing without --html"
        in run(room, "inspect out --adapter law", status=1).said
    )
