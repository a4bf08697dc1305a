"""Items in the words of an instruction: their hash, and their choices in the items' own terms."""

import hashlib
import json

from metro_fast.prompts import Item, Prompt, Rendered

__all__ = ["labels_of", "prompts_hash"]


def prompts_hash(rendered: Rendered) -> str:
    """SHA-256 of the items of a task as an instruction words them, rejects included.

    Args:
        rendered: Items, prompts and rejects.

    Returns:
        64 hexadecimal digits.
    """
    lines: list[object] = [
        [item.id, prompt.input, prompt.choices, prompt.answer, prompt.target, prompt.texts]
        for item, prompt in zip(rendered.items, rendered.prompts, strict=True)
    ]
    lines += [[reject.item_id, reject.reason] for reject in rendered.rejects]
    text = json.dumps(lines, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def labels_of(item: Item, prompt: Prompt) -> list[str]:
    """The choices of a reading in the words of its item.

    If the reading has as many choices as the item and the right one at the same place, they are the
    item's, place by place. If both have two, the wrong one is the item's wrong one: "no" under "Is
    it false?" is "yes" to an item that asks whether it is true. Otherwise, and if they are the
    item's own in another order, they are the reading's texts, in which the right one and the item's
    right answer change places.

    Args:
        item: The item.
        prompt: The item in the words of an instruction.

    Returns:
        A text for each choice of the prompt.
    """
    texts = list(prompt.choices)
    # The first is most readings: of 240,000 answers, looking further took a second.
    if (prompt.choices == item.choices and prompt.answer == item.answer) or prompt.answer is None:
        return texts
    right = item.answer_text
    here = texts[prompt.answer]
    moved = here == right and set(texts) == set(item.choices)
    if len(texts) == len(item.choices) and prompt.answer == item.answer and not moved:
        return list(item.choices)
    if len(texts) == len(item.choices) == 2 and item.answer is not None:
        return [item.choices[item.answer ^ prompt.answer ^ place] for place in (0, 1)]
    return [right if text == here else here if text == right else text for text in texts]
