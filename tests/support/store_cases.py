"""Programs that use a store of answers, for tests that run several or kill them."""

import itertools
from pathlib import Path

from naive_scorer import WORDS, causal_model, causal_tokenizer, make_questions

MODEL = "ab" * 32
PER_CALL = 40


def call_of(number: int) -> dict[tuple[int, ...], dict[tuple[int, ...], float]]:
    """The log-likelihoods that one call adds; all values differ."""
    return {
        (number, k): {(k,): -number - k / 64, (k, 2): -number - k / 64 - 2**-20}
        for k in range(PER_CALL // 2)
    }


def add_calls(path: Path, numbers: range) -> None:
    """Add calls, each in a transaction of its own."""
    from metro_fast.scoring import AnswerStore

    with AnswerStore(path) as store:
        for number in numbers:
            store.add_scores(MODEL, call_of(number))


def add_until_killed(path: Path, begun: Path) -> None:
    """Add calls until the process is killed; a file says that it has begun."""
    from metro_fast.scoring import AnswerStore

    with AnswerStore(path) as store:
        begun.touch()
        for number in itertools.count(len(store) // PER_CALL):
            store.add_scores(MODEL, call_of(number))


def adapted_model():
    """A causal model with an IA3 whose settings hold sets, which have an order of their own."""
    import peft

    config = peft.IA3Config(
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
        feedforward_modules=["up_proj", "down_proj"],
        modules_to_save=["lm_head"],
    )
    tokenizer = causal_tokenizer(WORDS)
    return peft.get_peft_model(causal_model("rotary", len(tokenizer)), config), tokenizer


def answer_all(path: Path, log: Path) -> None:
    """Ask a model prompts, and write down how many answers came from the store."""
    from metro_fast.scoring import PROTOCOLS, AnswerStore, Engine

    model, tokenizer = adapted_model()
    with AnswerStore(path) as store:
        outcomes = Engine(model, tokenizer, store=store).answer(
            make_questions(8), PROTOCOLS["lm_eval"]
        )
        log.write_text(f"{store.hits} {store.misses} {[o.scores for o in outcomes]}")
