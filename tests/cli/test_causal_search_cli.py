"""metro-fast expert compose and tune on a causal model: a Llama that is made here."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from front_door import call
from metro_fast.experts import compress
from metro_fast.prompts import Instruction, InstructionSet, Item, Task

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytest.importorskip("nevergrad")

from metro_fast.tuning import PairLoss
from naive_scorer import causal_model, causal_tokenizer, naive_causal

WORDS = ["red", "green", "blue", "what", "is", "it", "?", "."]
ANSWERS = ("red", "green", "blue")
PAIRS = [(f"what is it ? {a} .", a) for a in ANSWERS] + [("it is", "red . blue")]


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A Llama, two adapters of it (one compressed), examples and a task."""
    tokenizer = causal_tokenizer(WORDS)
    model = causal_model("rotary", len(tokenizer))
    model.save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(copy.deepcopy(model), config)
    for seed, name in enumerate(("one", "two")):
        generator = torch.Generator().manual_seed(seed)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3, generator=generator)
        adapted.save_pretrained(tmp_path / name)
    compress(tmp_path / "two", density=0.5).save(tmp_path / "two-packed")
    rows = [{"input": text, "target": target} for text, target in PAIRS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    items = [Item(str(i), {"text": f"{ANSWERS[i % 3]} ."}, ANSWERS, i % 3) for i in range(6)]
    Task("colors", "color", tuple(items)).save(tmp_path / "colors.jsonl")
    InstructionSet(
        [Instruction("a", "color", "{{ text }} what ?"), Instruction("b", "color", "{{ text }}")]
    ).save(tmp_path / "words.yaml")
    return tmp_path


def naive_loss(model: Any, tokenizer: Any) -> float:
    """Each target alone, after its input, one space and before the end token, without a cache."""
    total, tokens = 0.0, 0
    for text, target in PAIRS:
        context = tokenizer(text)["input_ids"]
        ids = tokenizer(f" {target}", add_special_tokens=False)["input_ids"] + [
            tokenizer.eos_token_id
        ]
        total -= naive_causal(model, context, ids)
        tokens += len(ids)
    return total / tokens


def test_the_loss_of_a_causal_model_is_that_of_its_targets(room: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(room / "llama").eval()
    tokenizer = AutoTokenizer.from_pretrained(room / "llama")
    assert tokenizer.pad_token_id is None
    loss = PairLoss(tokenizer, PAIRS)
    assert loss(model) == pytest.approx(naive_loss(model, tokenizer), abs=1e-5)
    adapted = peft.PeftModel.from_pretrained(model, room / "one").eval()
    assert loss(adapted) == pytest.approx(naive_loss(adapted, tokenizer), abs=1e-5)
    assert abs(loss(adapted) - naive_loss(adapted.unload(), tokenizer)) > 0.01


@pytest.mark.parametrize("command", ["compose", "tune"])
def test_searches_by_the_loss(room: Path, command: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    line = {
        "compose": "expert compose one two-packed --out out --steps 5",
        "tune": "expert tune one out --densities 0.1,0.5 --alphas 1,least_squares",
    }[command]
    ended = call(*line.split(), "--model", "llama", "--examples", "pairs.jsonl", folder=room)
    assert ended.status == 0, ended.stderr
    assert "mean loss in nats per token on 4 examples" in " ".join(ended.stdout.split())
    # What was written has the score that is on record, by the slow scorer.
    model = AutoModelForCausalLM.from_pretrained(room / "llama").eval()
    tokenizer = AutoTokenizer.from_pretrained(room / "llama")
    rows = [json.loads(row) for row in (room / "out/search.jsonl").read_text().splitlines()[1:]]
    if command == "compose":
        best = min(rows, key=lambda r: r["score"] + 0.05 * sum(map(abs, r["weights"])) / 2)
        score = best["score"]
        folder = room / "out"
    else:
        table = (room / "out/tuning.csv").read_text().splitlines()[2:]
        score = min(float(row.split(",")[4]) for row in table)
        folder = room / "plain"
        assert call("expert", "decompress", "out", "plain", folder=room).status == 0
    loaded = peft.PeftModel.from_pretrained(model, folder).eval()
    assert naive_loss(loaded, tokenizer) == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("command", ["compose", "tune"])
def test_searches_by_accuracy(room: Path, command: str) -> None:
    line = {
        "compose": "expert compose one two-packed --out out --steps 3",
        "tune": "expert tune one out --densities 0.2 --alphas 1,2",
    }[command]
    rated = "--model llama --tasks colors.jsonl --instructions words.yaml"
    ended = call(*line.split(), *rated.split(), folder=room)
    assert ended.status == 0, ended.stderr
    assert "accuracy, mean over 2 instructions (12 questions)" in " ".join(ended.stdout.split())
