"""The text that a chat model expects around an instruction."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metro_fast.errors import MetroFastError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["WRAPPERS", "Wrapper", "chat_wrapper"]

_MARK = "metro_fast puts the instruction here"


@dataclass(frozen=True)
class Wrapper:
    r"""The text around an instruction.

    Attributes:
        name: Its name in tables.
        before: The text before the instruction.
        after: The text after it, up to the place where the answer begins.
        separator: The text between `after` and the answer of a causal model. By default the
            protocol decides, which is one space.

    Example:
        >>> WRAPPERS["wizardlm"].wrap("Is snow white?")
        'Is snow white?\n\n### Response:'
    """

    name: str
    before: str = ""
    after: str = ""
    separator: str | None = None

    def wrap(self, text: str) -> str:
        """The text between `before` and `after`."""
        return self.before + text + self.after


WRAPPERS = {
    wrapper.name: wrapper
    for wrapper in (
        Wrapper("plain"),
        Wrapper(
            "alpaca",
            "Below is an instruction that describes a task. Write a response that appropriately "
            "completes the request.\n\n### Instruction:\n",
            "\n\n### Response:",
            "",
        ),
        Wrapper(
            "vicuna",
            "A chat between a curious user and an artificial intelligence assistant. The assistant "
            "gives helpful, detailed, and polite answers to the user's questions. USER: ",
            " ASSISTANT:",
            " ",
        ),
        Wrapper("wizardlm", "", "\n\n### Response:", ""),
    )
}
"""Wrappers by name.

`plain` adds nothing; `alpaca` is `prompt_no_input` of tatsu-lab/stanford_alpaca, `vicuna` is
version 1.1 of lm-sys/FastChat, and `wizardlm` is that of WizardLM-7B-V1.0. WizardLM from version
1.1 on was tuned with Vicuna's.
"""


def chat_wrapper(tokenizer: "PreTrainedTokenizerBase") -> Wrapper:
    r"""Read the text that a tokenizer's chat template puts around a message of the user.

    The wrapper is plain text, so that a result is identified by what the model read. Its name holds
    the beginning of the SHA-256 of that text.

    Args:
        tokenizer: A tokenizer with a chat template.

    Returns:
        The wrapper, which ends where the assistant's answer begins.

    Raises:
        MetroFastError: If the tokenizer has no chat template, or it changes the message.

    Example:
        >>> chat_wrapper(tokenizer).after  # doctest: +SKIP
        '<|im_end|>\n<|im_start|>assistant\n'
    """
    if not tokenizer.chat_template:
        raise MetroFastError(
            "the tokenizer has no chat template; give another wrapper, or set "
            "tokenizer.chat_template"
        )

    def render(text: str) -> str:
        messages = [{"role": "user", "content": text}]
        rendered = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return str(rendered)

    before, mark, after = render(_MARK).partition(_MARK)
    if not mark or _MARK in after or render("a, b\nc") != before + "a, b\nc" + after:
        raise MetroFastError(
            "the tokenizer's chat template changes or repeats the message, so that it is not a "
            "text around it; give a Wrapper with the text that you want"
        )
    digest = hashlib.sha256(f"{before}\0{after}".encode()).hexdigest()
    return Wrapper(f"chat-{digest[:8]}", before, after, "")
