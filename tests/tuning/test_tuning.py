"""Finetuning on pairs: full and LoRA, exact under accumulation, resumable; and its refusals."""

import dataclasses
import json
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from log_lines import untimed
from metro_fast._training.callbacks import EpochCallback
from metro_fast._training.checkpoints import latest_checkpoint
from metro_fast.errors import MetroFastError
from metro_fast.prompts import Instruction, InstructionSet, Item, RejectError, Task
from metro_fast.tuning import FinetuneConfig, TuningOptions, finetune, finetune_model
from metro_fast.tuning.pairs import PairCollator, PairRows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

LIMITS = {"max_input_length": 16, "max_target_length": 8, "vocab_size": 500}


def colors(count: int = 64) -> list[tuple[str, str]]:
    """Ragged sentences; the target is the color that they name."""
    draw = random.Random(0)
    filler = ["the", "a", "of", "in", "is", "are", "was", "and", "or"]
    pairs = []
    for _ in range(count):
        color = draw.choice(["red", "green", "blue"])
        words = [color, *draw.choices(filler, k=draw.randrange(1, 9))]
        draw.shuffle(words)
        pairs.append((" ".join(words), color if draw.random() < 0.5 else f"the {color} one"))
    return pairs


def options(**changes: Any) -> TuningOptions:
    return TuningOptions(
        **{"steps": 4, "batch_size": 8, "warmup_steps": 0, "logging_steps": 1, **changes}
    )


def history(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_learns_and_its_folders_load_again(
    method: str,
    tiny_t5: "T5ForConditionalGeneration",
    tiny_tokenizer: "PreTrainedTokenizerFast",
    tmp_path: Path,
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    before = {n: p.clone() for n, p in tiny_t5.state_dict().items()}
    tiny_t5.save_pretrained(tmp_path / "base")
    out = tmp_path / "out"
    tuned = finetune_model(
        tiny_t5,
        tiny_tokenizer,
        colors(),
        options(method=method, steps=60, learning_rate=1e-2, target_modules=["q", "v"]),
        output=out,
        evaluation_pairs=colors(10),
    )
    lines = history(out)
    losses = [line["loss"] for line in lines if "loss" in line]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert {"eval_loss", "eval_token_accuracy"} <= set(lines[-1])
    assert not tuned.training

    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "base" if method == "lora" else out)
    if method == "lora":
        config = json.loads((out / "adapter_config.json").read_text())
        assert (config["r"], sorted(config["target_modules"])) == (8, ["q", "v"])
        base = tuned.get_base_model().state_dict()
        frozen = {n.replace(".base_layer", ""): t for n, t in base.items() if "lora_" not in n}
        assert all(torch.equal(frozen[n], t) for n, t in before.items())
        loaded = PeftModel.from_pretrained(loaded, out)
    ids = torch.tensor([[25, 30, 1]])
    expected = tuned(input_ids=ids, decoder_input_ids=ids).logits
    assert torch.equal(loaded.eval()(input_ids=ids, decoder_input_ids=ids).logits, expected)
    assert AutoTokenizer.from_pretrained(out).eos_token_id == tiny_tokenizer.eos_token_id
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_update_does_not_depend_on_the_accumulation(
    method: str, tiny_t5: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient of one step over the same 16 ragged pairs, without dropout."""
    from transformers import T5Config, T5ForConditionalGeneration

    kept: dict[str, torch.Tensor] = {}

    def keep(self: Any, args: Any, state: Any, control: Any, **kw: Any) -> None:
        named = kw["model"].named_parameters()
        kept.update({n: p.grad.clone() for n, p in named if p.requires_grad})

    monkeypatch.setattr(EpochCallback, "on_pre_optimizer_step", keep)
    gradients = []
    for batch, accumulation in ((16, 1), (4, 4)):
        model = T5ForConditionalGeneration(
            T5Config(**{**tiny_t5.config.to_dict(), "dropout_rate": 0.0})
        )
        model.load_state_dict(tiny_t5.state_dict())
        finetune_model(
            model,
            tiny_tokenizer,
            colors(16),
            options(
                method=method,
                steps=1,
                batch_size=batch,
                accumulation_steps=accumulation,
                max_grad_norm=0.0,
            ),
        )
        gradients.append(dict(kept))
        kept.clear()
    whole, cut = gradients
    assert whole.keys() == cut.keys()
    assert len(whole) > 10
    for name, gradient in whole.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(cut[name], gradient, rtol=0, atol=1e-5 * scale + 1e-12)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_interrupted_and_resumed_is_bit_equal(
    method: str, tiny_t5: Any, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import copy

    chosen = options(method=method, steps=6, save_steps=2, logging_steps=4, accumulation_steps=2)
    unbroken = finetune_model(
        copy.deepcopy(tiny_t5), tiny_tokenizer, colors(), chosen, output=tmp_path / "a"
    )

    def interrupt(self: Any, args: Any, state: Any, control: Any, **kw: Any) -> None:
        if state.global_step == 3:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(EpochCallback, "on_step_begin", interrupt)
        with pytest.raises(KeyboardInterrupt):
            finetune_model(
                copy.deepcopy(tiny_t5), tiny_tokenizer, colors(), chosen, output=tmp_path / "b"
            )
    assert latest_checkpoint(tmp_path / "b" / "checkpoints").name == "checkpoint-4"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(MetroFastError, match="holds a run already: pass resume=True"):
        finetune_model(tiny_t5, tiny_tokenizer, colors(), chosen, output=tmp_path / "b")
    resumed = finetune_model(
        copy.deepcopy(tiny_t5),
        tiny_tokenizer,
        colors(),
        chosen,
        output=tmp_path / "b",
        resume=True,
    )
    before, after = unbroken.state_dict(), resumed.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    lines = [untimed(history(tmp_path / name)) for name in "ab"]
    assert lines[0] == lines[1]


def test_an_adapter_of_another_name_is_a_plain_folder_too(
    tiny_t5: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q"], task_type="SEQ_2_SEQ_LM")
    model = get_peft_model(tiny_t5, config, adapter_name="mine")
    for resume in (False, True):
        finetune_model(
            model, tiny_tokenizer, colors(8), options(steps=1), output=tmp_path, resume=resume
        )
    assert (tmp_path / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "mine").exists()


def test_without_output_nothing_is_left(
    tiny_t5: Any, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    finetune_model(tiny_t5, tiny_tokenizer, colors(8), options(steps=1))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MetroFastError, match="needs the output folder"):
        finetune_model(tiny_t5, tiny_tokenizer, colors(8), options(), resume=True)


def test_pairs_become_rows_that_end_with_eos(tiny_tokenizer: Any, caplog: Any) -> None:
    rows = PairRows(tiny_tokenizer, [("the " * 40, "red"), ("red", "blue")], **LIMITS)
    assert [len(row) for row in rows.inputs] == [16, 2]
    assert all(row[-1] == 1 and row.count(1) == 1 for row in rows.inputs + rows.targets)
    assert "1 of 2 inputs were cut to 16 tokens" in caplog.text
    batch = PairCollator(0)([rows[0], rows[1]])
    assert batch["labels"].dtype == torch.int64
    assert batch["labels"].is_contiguous()
    assert int(batch["num_labels"]) == 4
    assert batch["attention_mask"].sum(1).tolist() == [16, 2]


@pytest.mark.parametrize(
    ("pairs", "changes", "match"),
    [
        ([], {}, "no .input, target. pair"),
        ([("a", 3)], {}, r"pair 0 is \('a', 3\)"),
        ([("a",)], {}, "pair 0 is"),
        ([("a", "b"), ("a", " ")], {}, "pair 1 has an empty target"),
        ([("a", "b")], {"max_input_length": 1}, "max_input_length is 1"),
        ([("a", "b")], {"vocab_size": 5}, "but the model has 5 embeddings"),
    ],
)
def test_bad_pairs(pairs: Any, changes: Any, match: str, tiny_tokenizer: Any) -> None:
    with pytest.raises(MetroFastError, match=match):
        PairRows(tiny_tokenizer, pairs, **{**LIMITS, **changes})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"method": "adapter"}, "method is 'adapter', expected full or lora"),
        ({"steps": 0}, "steps is 0"),
        ({"rank": 0}, "rank is 0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"lora_dropout": 1.0}, "lora_dropout is 1.0"),
        ({"seed": -1}, "seed is -1"),
        ({"max_grad_norm": -1.0}, "max_grad_norm is -1.0"),
    ],
)
def test_bad_options(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(MetroFastError, match=match):
        options(**changes)


def test_bad_models_and_folders(tiny_t5: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(MetroFastError, match="expected an encoder-decoder"):
        finetune_model(torch.nn.Linear(2, 2), tiny_tokenizer, colors(4), options())
    with pytest.raises(MetroFastError, match=r"target_modules \['key'\] are in no module"):
        finetune_model(
            tiny_t5, tiny_tokenizer, colors(4), options(method="lora", target_modules=["key"])
        )
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        finetune_model(
            tiny_t5, tiny_tokenizer, colors(4), options(), output=tmp_path / "file" / "x"
        )


@pytest.fixture
def files(tiny_t5: Any, tiny_tokenizer: Any, tmp_path: Path) -> dict[str, Any]:
    items = tuple(
        Item(str(i), {"text": text}, ("red", "green", "blue"), i % 3)
        for i, (text, _) in enumerate(colors(12))
    )
    Task("colors", "color", items).save(tmp_path / "colors.jsonl")
    InstructionSet(
        [
            Instruction("a", "color", "Which of {{ options }}? {{ text }}", seen_by=("tiny",)),
            Instruction("b", "color", "{{ text }} What is red?"),
        ]
    ).save(tmp_path / "instructions.yaml")
    tiny_t5.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    return {
        "model": str(tmp_path / "model"),
        "tasks": [tmp_path / "colors.jsonl"],
        "instructions": tmp_path / "instructions.yaml",
        "output": tmp_path / "out",
        "steps": 2,
        "batch_size": 4,
        "logging_steps": 1,
    }


def test_a_model_is_not_written_over(files: dict[str, Any]) -> None:
    weights = Path(files["model"]) / "model.safetensors"
    before = weights.read_bytes()
    with pytest.raises(MetroFastError, match=r"holds a model \(config\.json\)"):
        finetune(FinetuneConfig(**{**files, "output": Path(files["model"])}))
    assert weights.read_bytes() == before


def test_a_run_continues_from_another_folder(files: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.chdir(files["output"].parent)
    relative = {**files, "tasks": [Path("colors.jsonl")], "model": "model", "output": Path("out")}
    finetune(FinetuneConfig(**relative, method="lora"))
    named = json.loads(Path("out/adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == "model"
    monkeypatch.chdir("/")
    finetune(FinetuneConfig(**files, method="lora", resume=True))


def test_finetune_from_files(files: dict[str, Any]) -> None:
    import yaml

    config = FinetuneConfig(**files, method="lora", evaluation_tasks=files["tasks"], seen_by="tiny")
    out = finetune(config)
    assert (out / "adapter_model.safetensors").is_file()
    settings = yaml.safe_load((out / "resolved_config.yaml").read_text())
    assert (settings["rank"], settings["tasks"]) == (8, [str(files["tasks"][0])])
    with pytest.raises(MetroFastError, match="holds a run already"):
        finetune(config)
    with pytest.raises(MetroFastError, match=r"other settings \(rank: 8 before, 4 now"):
        finetune(
            FinetuneConfig(
                **files,
                method="lora",
                rank=4,
                evaluation_tasks=files["tasks"],
                seen_by="tiny",
                resume=True,
            )
        )


def test_items_that_cannot_be_worded_are_counted(
    files: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    task = Task.load(files["tasks"][0])
    twice = Item("twice", task.items[0].fields, ("red", "red"), 0)
    Task("colors", "color", (*task.items, twice)).save(files["tasks"][0])
    words = [*InstructionSet.load(files["instructions"]), Instruction("c", "color", "{{ absent }}")]
    InstructionSet(words).save(files["instructions"])
    config = FinetuneConfig(**files, method="lora", evaluation_tasks=files["tasks"])
    with pytest.raises(RejectError, match="item '"):
        finetune(dataclasses.replace(config, strict=True))
    assert not files["output"].exists()
    finetune(config)
    worded = json.loads((files["output"] / "worded.json").read_text())
    (record,) = worded["tasks"]
    assert worded["evaluation_tasks"] == [record]
    assert (record["task"], record["items"], record["examples"]) == ("colors", 13, 12)
    assert sum(record["left_out"].values()) == 1
    # Each of the 12 good items draws the instruction that cannot word any with probability 1/3.
    assert record["passed_over"].keys() == {"undefined field"}
    assert 1 <= record["passed_over"]["undefined field"] <= 9
    assert caplog.text.count("colors: of 13 items, 1 item is left out") == 2
    # Whether items are refused does not change what is learned, so a resumed run may change it.
    Task("colors", "color", task.items).save(files["tasks"][0])
    InstructionSet(words[:2]).save(files["instructions"])
    finetune(dataclasses.replace(config, resume=True, strict=True))


def test_a_family_that_no_instruction_knows_is_named(files: dict[str, Any]) -> None:
    with pytest.raises(MetroFastError, match=r"seen_by is 'tyni', .*; they name tiny"):
        finetune(FinetuneConfig(**files, seen_by="tyni"))


def test_a_finished_run_is_made_longer(files: dict[str, Any]) -> None:
    import yaml

    out = finetune(FinetuneConfig(**files, method="lora"))
    weights = (out / "adapter_model.safetensors").read_bytes()
    longer = {**files, "steps": 5, "logging_steps": 2, "save_steps": 4, "method": "lora"}
    finetune(FinetuneConfig(**longer, resume=True))
    assert [line["step"] for line in history(out) if "loss" in line] == [1, 2, 4]
    assert (out / "checkpoints" / "checkpoint-5").is_dir()
    assert (out / "adapter_model.safetensors").read_bytes() != weights
    with pytest.raises(MetroFastError, match="steps is 2, but the run has reached step 5"):
        finetune(FinetuneConfig(**files, method="lora", resume=True))
    assert yaml.safe_load((out / "resolved_config.yaml").read_text())["steps"] == 5


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"model": "no/such/model"}, FileNotFoundError, "no/such/model"),
        ({"tasks": [Path("none.jsonl")]}, FileNotFoundError, "none.jsonl"),
        ({"instructions": Path("none.yaml")}, FileNotFoundError, "none.yaml"),
        ({"seen_by": "nobody"}, MetroFastError, "seen_by is 'nobody', .*; they name tiny"),
        ({"tasks": []}, MetroFastError, "tasks is empty"),
        ({"num_threads": -1}, MetroFastError, "num_threads is -1"),
    ],
)
def test_finetune_refuses_before_any_work(
    changes: dict[str, Any], error: type[Exception], match: str, files: dict[str, Any]
) -> None:
    with pytest.raises(error, match=match):
        finetune(FinetuneConfig(**{**files, **changes}))
    assert not files["output"].exists()
