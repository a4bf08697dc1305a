"""Engine.answer against the `hf` model of lm-eval, on one thread, with equal scores.

`python benches/bench_scoring.py` needs lm_eval (0.4.13) and writes benches/results/scoring.json.
Both sides start from texts, so that tokenization counts. They take turns, round after round, and
the medians of processor time are compared. lm-eval runs at several batch sizes, of which its
fastest counts. The models have random weights and a vocabulary of 32,128: a T5 of version 1.1's
small shape and a Llama of width 512 with 8 layers. Choices share no tokens, so that the trie saves
nothing. With the model of `make real-model`, reviews are classified too.
"""

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from metro_fast.scoring import PROTOCOLS, Engine

RESULTS = Path(__file__).parent / "results" / "scoring.json"
VOCABULARY = 32_128
BATCH_SIZES = (1, 8)
PACKAGES = ("metro_fast", "lm_eval", "torch", "transformers")


class Question(NamedTuple):
    """A prompt."""

    input: str
    choices: list[str]


class Case(NamedTuple):
    """Tokens of an input, number of choices, tokens of a choice, and the ratio to reach."""

    kind: str
    read: int
    choices: int
    written: int
    target: float
    prompts: int = 8


CASES = [
    Case("t5", 96, 19, 6, 2.5, 4),
    Case("t5", 256, 4, 2, 2),
    Case("t5", 128, 19, 1, 10, 4),
    Case("t5", 8, 4, 20, 1),
    Case("causal", 256, 4, 8, 3),
    Case("causal", 256, 4, 1, 1),
    Case("causal", 256, 1, 8, 1),
    Case("causal", 8, 4, 20, 1),
]


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """One token a word: `w7` is 7; T5's ends inputs in `</s>`."""
    pieces = ["<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(3, VOCABULARY))]
    backend = Tokenizer(
        models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if kind == "t5":
        backend.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def model_of(kind: str) -> Any:
    """A model with random weights, whose logits are of an ordinary size."""
    torch.manual_seed(0)
    if kind == "t5":
        model = T5ForConditionalGeneration(
            T5Config(
                vocab_size=VOCABULARY, d_model=512, d_kv=64, d_ff=1024, num_layers=8,
                num_decoder_layers=8, num_heads=6, feed_forward_proj="gated-gelu",
                tie_word_embeddings=False, decoder_start_token_id=0,
            )
        )  # fmt: skip
        torch.nn.init.normal_(model.lm_head.weight, std=0.05)
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=VOCABULARY, hidden_size=512, intermediate_size=1024,
                num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=8,
                max_position_embeddings=512,
            )
        )  # fmt: skip
    return model.eval()


def questions_of(case: Case) -> list[Question]:
    """Random words, as many as the case says, `</s>` included."""
    draw = random.Random(0)

    def text(count: int) -> str:
        return " ".join(f"w{draw.randrange(3, VOCABULARY)}" for _ in range(count))

    count = case.read - (case.kind == "t5")
    return [
        Question(text(count), [text(case.written) for _ in range(case.choices)])
        for _ in range(case.prompts)
    ]


def reviews(limit: int) -> list[Question]:
    """Reviews of films, as plain prompts."""
    path = Path(__file__).parents[1] / "../shared/data/tasks/sentence_polarity.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()[:limit]
    return [
        Question(
            f"Review: {json.loads(line)['text']}\nIs the review positive or negative?\nAnswer:",
            ["negative", "positive"],
        )
        for line in lines
    ]


def compare(
    model: Any, tokenizer: Any, kind: str, questions: list[Question], rounds: int
) -> dict[str, Any]:
    """Check that both give the same scores, and time them by turns."""
    engine = Engine(model, tokenizer)
    backend = "seq2seq" if kind == "t5" else "causal"
    peers = {
        size: HFLM(pretrained=model, tokenizer=tokenizer, backend=backend, batch_size=size,
                   device="cpu")
        for size in BATCH_SIZES
    }  # fmt: skip
    requests = [
        Instance("loglikelihood", {}, (question.input, " " + choice), 0)
        for question in questions
        for choice in question.choices
    ]

    def ours() -> list[float]:
        outcomes = engine.answer(questions, PROTOCOLS["lm_eval"])
        return [score for outcome in outcomes for score in outcome.scores or ()]

    def theirs(size: int) -> list[float]:
        return [value for value, _ in peers[size].loglikelihood(requests, disable_tqdm=True)]

    first, second = torch.tensor(ours()), torch.tensor(theirs(BATCH_SIZES[-1]))
    difference = float((first - second).abs().max())
    width = len(questions[0].choices)
    same = bool((first.view(-1, width).argmax(1) == second.view(-1, width).argmax(1)).all())
    assert difference < 1e-4, difference
    assert same
    times: dict[str, list[float]] = {"ours": [], **{f"lm_eval {n}": [] for n in BATCH_SIZES}}
    for _ in range(rounds):
        times["ours"].append(timed(ours))
        for size in BATCH_SIZES:
            times[f"lm_eval {size}"].append(timed(lambda size=size: theirs(size)))
    medians = {name: statistics.median(values) for name, values in times.items()}
    best = min(value for name, value in medians.items() if name != "ours")
    return {
        "prompts": len(questions),
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "ratio": round(best / medians["ours"], 2),
        "largest_difference": difference,
        "prompts_an_hour": {
            "ours": round(3600 * len(questions) / medians["ours"]),
            "lm_eval": round(3600 * len(questions) / best),
        },
    }


def timed(job: Callable[[], Any]) -> float:
    """Seconds of the processor, all on one thread, which others on the machine do not lengthen."""
    start = time.process_time()
    job()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--real-model", type=Path, help="folder of SmolLM2-135M-Instruct")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for kind in ("t5", "causal"):
        model, tokenizer = model_of(kind), tokenizer_of(kind)
        for case in (case for case in CASES if case.kind == kind):
            found = compare(model, tokenizer, kind, questions_of(case), options.rounds)
            rows.append(case._asdict() | found)
            write(rows, options.rounds)
    if options.real_model:
        from metro_fast._pretrained import load_model, load_tokenizer

        model, tokenizer = load_model(options.real_model), load_tokenizer(options.real_model)
        found = compare(model.eval(), tokenizer, "causal", reviews(16), options.rounds)
        rows.append({"kind": "SmolLM2-135M-Instruct, reviews", "target": 1} | found)
        write(rows, options.rounds)


def write(rows: list[dict[str, Any]], rounds: int) -> None:
    """Write what has been measured so far, since a run takes minutes."""
    results = {
        "machine": cpu(),
        "threads": 1,
        "rounds": rounds,
        "date": time.strftime("%Y-%m-%d"),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "cases": rows,
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(rows[-1]), flush=True)


def cpu() -> str:
    """The name of the processor."""
    names = [line.partition(":")[2].strip()
             for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]  # fmt: skip
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
