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

    They are the item's choices, if the reading has as many and the same one is right; otherwise
    they are its own texts, and the item's right answer in place of the right one.

    Args:
        item: The item.
        prompt: The item in the words of an instruction.

    Returns:
        A text for each choice of the prompt.
    """
    aligned = len(prompt.choices) == len(item.choices) and prompt.answer == item.answer
    texts = list(item.choices if aligned else prompt.choices)
    if prompt.answer is not None:
        texts[prompt.answer] = item.answer_text
    return texts
