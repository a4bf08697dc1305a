"""Ask two models the same items in several wordings, and judge the second against the first.

python examples/evaluate_robustness.py [FIRST SECOND]

Without folders two tiny T5 models with random weights are compared.
"""

import sys

from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    set_seed,
)

from metro_fast.data import train_tokenizer
from metro_fast.prompts import Instruction, InstructionSet, Item, Task
from metro_fast.robustness import Report, compare, evaluate, write_page

ANIMALS, PLACES = ("cat", "dog", "bird", "fish"), ("rome", "oslo", "paris")
TASK = Task(
    "where",
    "qa",
    [
        Item(f"{a}-{p}", {"passage": f"the {a} is in {p} ."}, PLACES, number, group=a)
        for a in ANIMALS
        for number, p in enumerate(PLACES)
    ],
)
WORDINGS = InstructionSet(
    [
        Instruction("plain", "qa", "{{ passage }} where ?", seen_by=("mine",)),
        Instruction("options", "qa", "choose {{ options }} : {{ passage }}", seen_by=("mine",)),
        Instruction("unseen", "qa", "is it {{ options }} ? {{ passage }}"),
    ]
)


def make_model(folder: str, seed: int) -> None:
    """Save a tiny T5 with random weights and its tokenizer."""
    text = "where is it ? choose from the cat dog bird fish in rome oslo paris . : , " * 20
    tokenizer = train_tokenizer([text], vocab_size=80, num_sentinels=8)
    set_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    )
    config.decoder_start_token_id = config.pad_token_id
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def report(folder: str) -> Report:
    """Score one model; finished cells in the folder `evaluation` are taken over."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = {"model_name": folder.replace("/", "-"), "model_family": "mine"}
    return evaluate(model, tokenizer, [TASK], WORDINGS, output="evaluation", **names)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        make_model("first", 0)
        make_model("second", 1)
    first, second = (report(name) for name in sys.argv[1:] or ("first", "second"))
    judged = compare(first, second, margin=0.02).task("where")
    low, high = judged.difference.interval
    mean = judged.difference.mean
    print(f"{judged.verdict}: second minus first {mean:+.3f} ({low:+.3f} to {high:+.3f})")
    print("wrote", write_page("robustness.html", [first, second]))
