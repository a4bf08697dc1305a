"""A real instruction-tuned model answers; `make real-model` fetches it (93 MB, about a minute)."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared_files import shared_files

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.slow  # 135 million parameters on one thread


def asked(tokenizer: Any, questions: list[str]) -> Any:
    """The token ids of chats with one message each, ready for an answer."""
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        for question in questions
    ]
    return tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)


def test_it_knows_the_capital_of_france(real_model: Any) -> None:
    model, tokenizer = real_model
    inputs = asked(tokenizer, ["What is the capital of France?"])
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    answer = tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert "Paris" in answer


@pytest.mark.parametrize("path", shared_files("tasks/sentence_polarity.jsonl"))
def test_it_reads_the_polarity_of_sentences(path: Path, real_model: Any) -> None:
    model, tokenizer = real_model
    items = [json.loads(line) for line in path.read_text().splitlines()[:60]]
    words = [
        tokenizer(w, add_special_tokens=False)["input_ids"][0] for w in ("negative", "positive")
    ]
    right = 0
    for start in range(0, len(items), 20):
        part = items[start : start + 20]
        questions = [
            f"Is the sentiment of this review positive or negative? {item['text']}" for item in part
        ]
        with torch.inference_mode():
            logits = model(**asked(tokenizer, questions), logits_to_keep=1).logits[:, -1, words]
        right += sum(
            int(p) == item["label"] for p, item in zip(logits.argmax(1), part, strict=True)
        )
    assert right >= 0.6 * len(items)  # always saying positive gives 32 of the 60
