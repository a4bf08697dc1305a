"""Protocols: everything besides model and text that an answer and its score depend on."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.scoring.wrappers import WRAPPERS, Wrapper, chat_wrapper

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PRESETS", "PROTOCOLS", "Normalization", "Protocol", "find_protocol"]

Normalization = Literal["sum", "mean", "char", "byte", "pmi"]


@dataclass(frozen=True)
class Protocol:
    """How a model is asked, and how its answer is read.

    Attributes:
        name: Its name in tables.
        special_tokens: Whether the input carries the tokenizer's special tokens: `</s>` at the end
            for T5, the start token for most causal models.
        target_end: Whether the end token belongs to the scored tokens of a choice.
        normalization: `sum` of the log-likelihoods; `mean`, `char` and `byte` divide the sum by the
            tokens of the target, or the characters or UTF-8 bytes of the choice; `pmi` subtracts
            the log-likelihood of the choice without any input.
        letters: Whether A, B, C, ... are scored, or looked for in what the model writes, in place
            of the texts of the choices.
        first_token: Whether only the first token of a choice is scored, tokenized on its own.
        separator: The text between input and choice. By default the wrapper decides; if it does
            not, it is one space for causal models and nothing for encoder-decoders.
        wrapper: The text around the input.
        max_input_tokens: Longer inputs are cut; None is the model's own limit.
        max_target_tokens: Longer choices are cut.
        truncation_side: The side from which a long input loses tokens. The special tokens and the
            text of the wrapper stay.
        generate: Whether the model writes its answer, and a choice is found in it.
        max_new_tokens: Most tokens that it writes.
        stop: The answer ends before the first of these texts.

    Raises:
        MetroFastError: If a value is out of its range, or two of them contradict each other.

    Example:
        >>> from dataclasses import replace
        >>> replace(PROTOCOLS["lm_eval"], name="lm_eval_norm", normalization="char").normalization
        'char'
    """

    name: str
    special_tokens: bool = True
    target_end: bool = True
    normalization: Normalization = "sum"
    letters: bool = False
    first_token: bool = False
    separator: str | None = None
    wrapper: Wrapper = WRAPPERS["plain"]
    max_input_tokens: int | None = 512
    max_target_tokens: int = 256
    truncation_side: Literal["left", "right"] = "right"
    generate: bool = False
    max_new_tokens: int = 32
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.normalization not in get_args(Normalization):
            raise MetroFastError(
                f"normalization is {quoted(self.normalization)}; give one of "
                f"{', '.join(get_args(Normalization))}"
            )
        if self.truncation_side not in ("left", "right"):
            raise MetroFastError(
                f"truncation_side is {quoted(self.truncation_side)}; give left or right"
            )
        for field in ("max_input_tokens", "max_target_tokens", "max_new_tokens"):
            limit = getattr(self, field)
            if limit is not None and limit < 1:
                raise MetroFastError(f"{field} is {limit}; give at least 1")
        if self.first_token and self.target_end:
            raise MetroFastError("first_token leaves no end token; set target_end to False")
        if self.generate and self.normalization != "sum":
            raise MetroFastError(
                f"generate gives no scores to normalize by {quoted(self.normalization)}; leave it "
                "at sum"
            )
        if not isinstance(self.stop, tuple) or not all(self.stop):
            raise MetroFastError(
                f"stop is {quoted(self.stop)}; give a tuple of texts, none of them empty"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """Every field that answers depend on, as JSON values, by name.

        The names of the protocol and of its wrapper are left out.
        """
        values = asdict(self)
        del values["name"], values["wrapper"]["name"]
        return values | {"stop": list(self.stop)}

    @property
    def sha256(self) -> str:
        """SHA-256 of `identity`, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("metro_t0"),
        Protocol("t0", special_tokens=False),
        Protocol(
            "lm_eval",
            target_end=False,
            separator=" ",
            max_input_tokens=None,
            truncation_side="left",
        ),
        Protocol("mmlu_letters", letters=True),
        Protocol("mmlu_argmax", target_end=False, letters=True, first_token=True),
        Protocol("generate_match", truncation_side="left", generate=True),
    )
}
"""The protocols by name. They give different numbers:

- `metro_t0`: METRO-T0's evaluation (gonglinyuan/metro_t0 t-zero/evaluation/run_eval.py:189-206).
- `t0`: T0's (bigscience-workshop/t-zero evaluation/run_eval.py:261-277), without `</s>` on inputs.
- `lm_eval`: the `hf` model of EleutherAI/lm-evaluation-harness 0.4.13, whose targets do not end in
  `</s>`, and whose choices follow one space.
- `mmlu_letters`: METRO-T0's MMLU (mmlu/run_mmlu.py), where the letters are the choices.
- `mmlu_argmax`: QLoRA's and ComPEFT's MMLU (qlora.py:114-142), the first token of each letter.
- `generate_match`: greedy generation, and the label that is found in it.
"""

PRESETS = {name: protocol for name, protocol in PROTOCOLS.items() if not protocol.generate}
"""Those of `PROTOCOLS` that give every choice a score."""


def find_protocol(
    name: str, *, wrapper: str = "", tokenizer: "PreTrainedTokenizerBase | None" = None
) -> Protocol:
    """Look up a protocol, and put a wrapper into it.

    Args:
        name: A key of `PROTOCOLS`.
        wrapper: A key of `WRAPPERS`, or `chat` for the tokenizer's chat template; by default the
            protocol stays as it is.
        tokenizer: Needed for `chat`.

    Returns:
        The protocol. With a wrapper, its name is `<name>+<name of the wrapper>`.

    Raises:
        MetroFastError: If there is no such protocol or wrapper, or no chat template.

    Example:
        >>> find_protocol("lm_eval", wrapper="vicuna").name
        'lm_eval+vicuna'
    """
    if name not in PROTOCOLS:
        raise MetroFastError(f"the protocol is {quoted(name)}; give one of {', '.join(PROTOCOLS)}")
    found = PROTOCOLS[name]
    if wrapper in ("", "plain"):
        return found
    if wrapper == "chat":
        if tokenizer is None:
            raise MetroFastError("the wrapper is chat; give the tokenizer that has the template")
        around = chat_wrapper(tokenizer)
    elif wrapper in WRAPPERS:
        around = WRAPPERS[wrapper]
    else:
        raise MetroFastError(
            f"the wrapper is {quoted(wrapper)}; give one of {', '.join([*WRAPPERS, 'chat'])}"
        )
    return replace(found, name=f"{name}+{around.name}", wrapper=around)
