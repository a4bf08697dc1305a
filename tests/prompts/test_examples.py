"""Examples for finetuning where some instructions cannot word some items."""

import hashlib
import random
from collections import Counter

import pytest

from metro_fast.errors import MetroFastError
from metro_fast.prompts import Instruction, Item, RejectError, Task, by_reason, render_examples

PLAIN = [Instruction(f"plain {i}", "qa", f"{i} {{{{ name }}}}") for i in range(3)]
# Cannot word the items whose number is not divisible by 3, or whose size is unknown.
THIRD = Instruction("third", "qa", "{{ name }} {% if number % 3 %}{{ absent }}{% endif %}")
SIZED = Instruction("sized", "qa", "{{ name }} is {{ size }}")


def items(count: int = 60, **fields: object) -> list[Item]:
    return [
        Item(str(n), {"name": f"item{n}", "number": n, **fields}, ("no", "yes"), n % 2)
        for n in range(count)
    ]


def by_item(task: Task, words: list[Instruction], **options: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text, _ in render_examples(task, words, **options).examples:  # type: ignore[arg-type]
        (name,) = [word for word in text.split() if word.startswith("item")]
        found.setdefault(name, []).append(text)
    return found


def test_a_draw_passes_over_what_cannot_word_the_item() -> None:
    task = Task("t", "qa", items())
    found = render_examples(task, [*PLAIN, THIRD], seed=3, instructions_per_item=2)
    assert len(found.examples) == 2 * len(task)
    assert found.rejects == ()
    assert [target for _, target in found.examples[::2]] == ["no", "yes"] * 30
    # About half of the 40 items that THIRD cannot word draw it among their two.
    assert by_reason(found.passed_over) == {"undefined field": len(found.passed_over)}
    passed = {reject.item_id for reject in found.passed_over}
    assert 10 < len(passed) < 40
    assert all(int(name) % 3 for name in passed)
    assert found.summary() == (
        f"{len(passed)} times an instruction that cannot word its item is replaced by another one "
        f"(undefined field: {len(passed)})"
    )


def test_the_draw_is_the_published_one() -> None:
    task = Task("t", "qa", items(20))
    found = by_item(task, PLAIN, seed=11, instructions_per_item=2)
    for item in task:
        digest = hashlib.sha256(f"11\0{item.id}".encode()).digest()
        drawn = random.Random(int.from_bytes(digest[:8], "big")).sample(range(3), 2)
        assert [int(text[0]) for text in found[f"item{item.id}"]] == drawn


@pytest.mark.parametrize("count", [1, 2, 3])
def test_items_that_every_instruction_can_word_keep_their_wordings(count: int) -> None:
    """The wordings of items whose fields are complete do not depend on the others'."""
    words = [*PLAIN, SIZED]
    whole = Task("t", "qa", items(size="big"))
    expected = by_item(whole, words, seed=7, instructions_per_item=count)
    mixed = [b if n % 2 else a for n, (a, b) in enumerate(zip(items(), whole, strict=True))]
    found = by_item(Task("t", "qa", mixed), words, seed=7, instructions_per_item=count)
    for n in range(60):
        if n % 2:
            assert found[f"item{n}"] == expected[f"item{n}"]
        else:
            # What was drawn stays, in order, and another one comes after it.
            kept = [text for text in expected[f"item{n}"] if "big" not in text]
            assert found[f"item{n}"][: len(kept)] == kept
            assert len(set(found[f"item{n}"])) == count
    again = by_item(Task("t", "qa", mixed[::-1]), words, seed=7, instructions_per_item=count)
    assert again == found


def test_the_replacement_is_drawn_and_not_the_next_in_line() -> None:
    task = Task("t", "qa", items(300))
    found = render_examples(task, [SIZED, *PLAIN], seed=0)
    drawn = Counter(text.split()[0] for text, _ in found.examples)
    assert set(drawn) == {"0", "1", "2"}
    # Each of the three is expected 100 times; the standard deviation is 8.2.
    assert all(abs(count - 100) < 35 for count in drawn.values())


def test_an_item_that_too_few_can_word_is_left_out_and_counted() -> None:
    task = Task("t", "qa", items(9))
    words = [PLAIN[0], THIRD]
    found = render_examples(task, words, seed=0, instructions_per_item=2)
    plain = [text for text, _ in found.examples if text[0] == "0"]
    assert plain == ["0 item0", "0 item3", "0 item6"]
    assert len(found.examples) == 6
    assert [(r.item_id, r.reason) for r in found.rejects] == [
        (str(n), "undefined field") for n in (1, 2, 4, 5, 7, 8)
    ]
    assert found.passed_over == ()
    assert found.summary() == (
        "6 items are left out, because too few instructions can word them (undefined field: 6)"
    )
    with pytest.raises(RejectError, match="instruction 'third', item '1': 'absent' is undefined"):
        render_examples(task, words, seed=0, instructions_per_item=2, strict=True)
    with pytest.raises(MetroFastError, match="no item can be worded by 1 of the 1 instructions"):
        render_examples(task, [SIZED], seed=0)
