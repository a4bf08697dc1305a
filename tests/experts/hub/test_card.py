"""The model card: metadata as huggingface_hub reads it, figures that are the expert's own."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from metro_fast import MetroFastError
from metro_fast.cli.expert_card import app
from metro_fast.experts import Expert, ModuleFidelity, compress, fidelity
from metro_fast.experts.adapters.peft_folder import write_folder
from metro_fast.experts.adapters.tensors import RawTensor


def adapter(folder: Path, base: str | None = "google-t5/t5-small", **options) -> Path:
    rng, raw = np.random.default_rng(3), {}
    for i in range(6):
        for factor, shape in (("A", (4, 40)), ("B", (40, 4))):
            name = f"base_model.model.layers.{i}.q.lora_{factor}.weight"
            raw[name] = RawTensor.of(rng.standard_normal(shape).astype(np.float32), name)
    config = {"peft_type": "LORA", "base_model_name_or_path": base} | options
    write_folder(folder, raw, json.dumps(config).encode())
    return folder


def metadata(text: str):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    return huggingface_hub.ModelCard(text).data


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def test_metadata_as_the_hub_reads_it(tmp_path: Path):
    expert = compress(adapter(tmp_path / "a", revision="v2", task_type="SEQ_2_SEQ_LM"), density=0.2)
    text = expert.card("owner/name", license="apache-2.0")
    data = metadata(text)
    assert data.to_dict() == {
        "library_name": "peft",
        "base_model": "google-t5/t5-small",
        "base_model_relation": "adapter",
        "tags": ["peft", "lora", "metro_fast", "compeft", "ternary"],
        "license": "apache-2.0",
    }
    assert "license" not in metadata(expert.card()).to_dict()
    assert metadata(expert.card(base_model="gpt2")).base_model == "gpt2"
    assert "arxiv.org/abs/2311.13171" in text
    assert "Stock PEFT must not read `adapter_model.compeft.safetensors`" in text


def test_figures_are_those_of_the_expert(tmp_path: Path):
    expert = compress(adapter(tmp_path / "a"), density=0.3, alpha=2.0)
    text = expert.card(rows=3)
    assert f"{expert.nbytes:,} bytes" in text
    assert f"| bits per parameter | {expert.bits_per_parameter:.3f} |" in text
    assert f"{16 / expert.bits_per_parameter:.1f}x smaller" in text
    assert f"| parameters | {expert.manifest.parameters:,} |" in text
    for group, scale in zip(expert.manifest.groups, expert.scales, strict=True):
        rows = [row for row in expert.describe() if row["group"] == group.name]
        entries = sum(np.prod(row["shape"]) for row in rows)
        kept = sum(np.prod(row["shape"]) * row["density"] for row in rows)
        line = f"| `{group.name}` | {entries:,} | 0.3 | {kept / entries:.4f} | {group.alpha:.3f} |"
        assert f"{line} {float(scale):.6g} |" in text
    worst = sorted(expert.estimated_fidelity, key=lambda row: row.cosine)[:3]
    listed = re.findall(r"^\| `([^`]*layers[^`]*)` \| ([\d.]+) \| ([\d.]+) \|$", text, re.M)
    assert listed == [(r.module, f"{r.cosine:.3f}", f"{r.norm_ratio:.3f}") for r in worst]
    assert "estimated when it was compressed" in text


def test_fidelity_may_be_exact_or_unknown(tmp_path: Path):
    folder = adapter(tmp_path / "a")
    expert = compress(folder, density=0.2)
    exact = fidelity(folder, expert)
    text = expert.card(fidelity=exact)
    worst = min(exact, key=lambda row: row.cosine)
    assert "computed from the weights" in text
    assert f"| `{worst.module}` | {worst.cosine:.3f} |" in text
    expert.save(tmp_path / "e")
    assert "cosine" not in Expert.load(tmp_path / "e").card()


def test_many_groups_are_cut(tmp_path: Path):
    expert = compress(adapter(tmp_path / "a"), density=0.2, alpha=1.0, scope="tensor")
    text = expert.card(rows=5)
    assert "and 7 more groups that are no larger, alpha 1.000." in text
    assert len(re.findall(r"^\| `base_model.*lora_[AB].weight` \|", text, re.M)) == 5


def test_a_local_base_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run/main").mkdir(parents=True)
    for i, base in enumerate((str(tmp_path / "secret"), "run/main", "./x", "a/b/c", None)):
        text = compress(adapter(tmp_path / str(i), base=base), density=0.2).card()
        assert "base_model" not in metadata(text).to_dict()
        assert "BASE_MODEL" in text
        assert base is None or base not in text
    with pytest.raises(MetroFastError, match="expected a model of the Hub"):
        compress(tmp_path / "0", density=0.2).card(base_model="/models/x")


@pytest.mark.parametrize(
    ("kind", "library", "kind_name", "relation"),
    [
        ("full", "metro_fast", "The residual of a full finetune", "finetune"),
        ("other", "metro_fast", "An adapter", "adapter"),
        ("ia3", "metro_fast", "An IA3 adapter", "adapter"),
        ("prompt", "metro_fast", "A soft prompt", "adapter"),
    ],
)
def test_every_kind_has_a_card(kind: str, library: str, kind_name: str, relation: str):
    base = {"w": np.zeros((4, 64), np.float32)}
    tuned = {"w": np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)}
    initial = base if kind == "full" else None
    expert = compress(tuned, kind=kind, density=0.2, initial=initial)
    text = expert.card("owner/name", base_model="org/base")
    data = metadata(text)
    assert (data.library_name, data.base_model_relation) == (library, relation)
    assert kind_name in text
    for code in blocks(text, "python"):
        compile(code, "card", "exec")
    assert "Stock PEFT" not in text


def test_the_code_of_a_card_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    from transformers import T5Config, T5ForConditionalGeneration

    from metro_fast.cli.expert_decompress import decompress_command

    monkeypatch.chdir(tmp_path)
    config = T5Config(vocab_size=64, d_model=16, d_ff=16, d_kv=4, num_layers=1, num_heads=2)
    base = T5ForConditionalGeneration(config)
    base.save_pretrained("base")
    tuned = peft.get_peft_model(
        base, peft.LoraConfig("SEQ_2_SEQ_LM", r=2, target_modules=["q"], init_lora_weights=False)
    )
    expert = compress(tuned, density=0.5)
    expert.save("owner/name")
    text = expert.card("owner/name", base_model="org/base")
    load, plain = (
        code.replace("org/base", "base").replace("hf://", "") for code in blocks(text, "python")
    )
    assert "AutoModelForSeq2SeqLM" in load
    one: dict[str, object] = {}
    exec(load, one)
    _, decompress = blocks(text, "bash")
    assert decompress.split() == ["metro-fast", "expert", "decompress", "hf://owner/name", "plain"]
    decompress_command("owner/name", Path("plain"))
    two: dict[str, object] = {}
    exec(plain, two)
    inputs = {"input_ids": torch.tensor([[1, 2]]), "decoder_input_ids": torch.tensor([[0]])}
    logits = [found["model"].eval()(**inputs).logits for found in (one, two)]
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=0)


def test_names_cannot_break_out_of_their_cells():
    rows = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    names = dict(zip(("a|b", "c`d</td>"), rows, strict=True))
    expert = compress(names, kind="other", density=0.5, scope="tensor")
    odd = ModuleFidelity("x\n# y|z`", 0.5, 0.5)
    text = expert.card(fidelity=[odd])
    assert r"| `a\|b` |" in text
    assert "| `c'd</td>` |" in text
    assert r"| `x # y\|z'` | 0.500 |" in text
    assert "hf://o/n/it's" in expert.card("hf://o/n/it's")
    assert metadata(expert.card("hf://o/n/it's")).library_name == "metro_fast"


def test_errors_are_named(tmp_path: Path):
    expert = compress(adapter(tmp_path / "a"), density=0.2)
    with pytest.raises(MetroFastError, match="rows is 0, expected at least 1"):
        expert.card(rows=0)
    with pytest.raises(MetroFastError, match="is not a repository of the Hub"):
        expert.card("name")


def test_the_command(tmp_path: Path):
    folder = adapter(tmp_path / "a")
    expert = compress(folder, density=0.2)
    expert.save(tmp_path / "packed")

    def run(*arguments: object):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    options = ["--repo", "owner/name", "--license", "mit", "--adapter", folder, "--rows", 2]
    result = run(tmp_path / "packed", *options)
    rows = fidelity(folder, expert)
    expected = expert.card("owner/name", license="mit", fidelity=rows, rows=2)
    assert result.output == expected
    assert not (tmp_path / "packed/README.md").exists()
    result = run(tmp_path / "packed/adapter_model.compeft.safetensors", *options, "--write")
    assert "wrote" in result.output
    assert (tmp_path / "packed/README.md").read_text("utf-8") == expected
    assert isinstance(run(tmp_path / "packed", "--write").exception, MetroFastError)
    assert run(tmp_path / "packed", "--write", "--replace").exit_code == 0
    assert (tmp_path / "packed/README.md").read_text("utf-8") == Expert.load(
        tmp_path / "packed"
    ).card()
    for arguments in (["hf://owner/name", "--write"], ["packed", "--initial", folder]):
        assert isinstance(run(*arguments).exception, MetroFastError)
