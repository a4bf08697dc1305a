"""lm-eval's door: its tasks run through our engine as the model `metro_fast`.

Importing this file registers the model, since lm-eval 0.4.13 finds no model by an entry point.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metro_fast._adapter import load_adapter
from metro_fast._extras import require
from metro_fast._pretrained import load_model, load_tokenizer
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError

require("lm_eval", "lm-eval")

from lm_eval.api.model import LM  # noqa: E402
from lm_eval.api.registry import register_model  # noqa: E402

from metro_fast.scoring.continuations import ContinuationEngine  # noqa: E402
from metro_fast.scoring.protocol import PROTOCOLS  # noqa: E402

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["MetroFastLM"]

_logger = logging.getLogger(__name__)

# What a greedy answer does not depend on, if it is at its neutral value.
_NEUTRAL = {"do_sample": (False, None), "num_beams": (1,), "use_cache": (True,)}
_OF_SAMPLING = ("temperature", "top_p", "top_k", "min_p")
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


class _Asked(NamedTuple):
    input: str
    choices: None = None


class MetroFastLM(LM):  # type: ignore[misc]
    """A model of lm-eval that asks our engine.

    The numbers are those of lm-eval's `hf` model to 1e-4, but for inputs that are too long: they
    keep their start token here, and lose it there. Whole texts (`loglikelihood_rolling`) are
    refused.

    Args:
        pretrained: A model, or its folder or name on the Hub.
        tokenizer: Its tokenizer, or folder or name; by default that of `pretrained`.
        peft: Folder of a plain PEFT adapter (LoRA, IA3) that is put onto the model.
        dtype: The type of the weights, such as `bfloat16`; by default that of the checkpoint.
        device: Where the model is moved to; by default it stays where it is.
        max_batch_tokens: Most padded tokens of one call.
        padding_side: Where the inputs of a causal model are padded, left or right.
        max_gen_toks: Most tokens of a written answer, if the task sets no limit.
        batch_size: Not used, because batches are filled by tokens; lm-eval passes it on.
        max_batch_size: Not used, like `batch_size`.

    Raises:
        TypeError: If a model is given without its tokenizer.
        FormatError: If a file of the model is damaged or a weight is missing.
        MetroFastError: If the model cannot be scored (see `Engine`).
        OSError: If the model or its tokenizer is not found.

    Example:
        >>> import lm_eval, metro_fast.scoring.lm_eval_model  # doctest: +SKIP
        >>> found = lm_eval.simple_evaluate(  # doctest: +SKIP
        ...     "metro_fast", model_args={"pretrained": "google/flan-t5-small"}, tasks=["arc_easy"]
        ... )
    """

    def __init__(
        self,
        pretrained: "str | Path | PreTrainedModel",
        *,
        tokenizer: "str | Path | PreTrainedTokenizerBase | None" = None,
        peft: str | Path | None = None,
        dtype: str | None = None,
        device: str | None = None,
        max_batch_tokens: int = 16384,
        padding_side: str = "left",
        max_gen_toks: int = 256,
        batch_size: object = None,
        max_batch_size: object = None,
    ) -> None:
        super().__init__()
        if isinstance(pretrained, str | Path):
            model = load_model(pretrained, dtype)
            tokenizer = pretrained if tokenizer is None else tokenizer
            self._name = str(pretrained)
        elif tokenizer is None:
            raise TypeError("pretrained is a model; give its tokenizer too")
        else:
            model = pretrained
            self._name = str(model.config.name_or_path or type(model).__name__)
        for name, value in (("batch_size", batch_size), ("max_batch_size", max_batch_size)):
            if value not in (None, 1, "1"):
                _logger.warning(
                    "%s=%s is not used: batches hold at most max_batch_tokens=%d tokens",
                    name, value, max_batch_tokens,
                )  # fmt: skip
        if peft is not None:
            model = load_adapter(model, peft)
        if device is not None:
            model.to(device)  # type: ignore[arg-type, unused-ignore]
        self._device = model.device
        own = load_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
        self._tokenizer: PreTrainedTokenizerBase = own
        self._max_gen_toks = max_gen_toks
        self._engine = ContinuationEngine(
            model, own, max_batch_tokens=max_batch_tokens, padding_side=padding_side
        )

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether the model would write it itself."""
        pairs = [request.args for request in requests]
        found = [tuple(value) for value in self._engine.continuations(pairs)]
        for pair, value in zip(pairs, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", pair, value)
        return found  # type: ignore[return-value]

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Refuse whole texts, which have no context.

        Raises:
            MetroFastError: Always; it names the tasks.
        """
        names = sorted({str(request.task_name) for request in requests})
        raise MetroFastError(
            f"the tasks {', '.join(names)} ask for the likelihood of whole texts "
            "(loglikelihood_rolling), which metro_fast does not compute; use lm-eval's model hf"
        )

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy answers, each up to its first stop text.

        Raises:
            MetroFastError: If a task wants samples, beams or a setting that is not known.
        """
        answers = [""] * len(requests)
        groups: dict[tuple[tuple[str, ...], int], list[int]] = {}
        for place, request in enumerate(requests):
            settings = self._settings(request.args[1], str(request.task_name))
            groups.setdefault(settings, []).append(place)
        for (stop, length), places in groups.items():
            protocol = replace(
                PROTOCOLS["generate_match"],
                max_input_tokens=None,
                stop=stop,
                max_new_tokens=length,
            )
            prompts = [_Asked(requests[place].args[0]) for place in places]
            for place, outcome in zip(places, self._engine.answer(prompts, protocol), strict=True):
                assert outcome.text is not None
                answers[place] = outcome.text
                self.cache_hook.add_partial("generate_until", requests[place].args, outcome.text)
        return answers

    def _settings(self, given: Mapping[str, Any], task: str) -> tuple[tuple[str, ...], int]:
        """The stop texts and the most tokens that a request asks for."""
        rest = dict(given)
        until = rest.pop("until", None) or []
        stop = tuple(text for text in ([until] if isinstance(until, str) else until) if text)
        lengths = [rest.pop(key) for key in _LENGTHS if key in rest]
        # lm-eval takes a temperature above 0 for a wish to sample, unless it is denied.
        warm = float(rest.get("temperature") or 0) > 0
        samples = warm if rest.get("do_sample") is None else rest["do_sample"]
        for key, value in rest.items():
            neutral = key in _OF_SAMPLING and not samples
            if not (neutral or value in _NEUTRAL.get(key, ())):
                raise MetroFastError(
                    f"task {task} generates with {key}={quoted(value)}; metro_fast answers "
                    "greedily, so use lm-eval's model hf, or gen_kwargs without it"
                )
        return stop, int(lengths[0]) if lengths else self._max_gen_toks

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer, by which lm-eval keeps requests apart."""
        return str(self._tokenizer.name_or_path or self._name).replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The tokenizer's chat template.

        Raises:
            MetroFastError: If one is asked for by name, or the tokenizer has none.
        """
        if chat_template is False:
            return ""
        if chat_template is not True:
            raise MetroFastError(
                f"the chat template is {quoted(chat_template)}; metro_fast has the tokenizer's own "
                "alone"
            )
        found = self._tokenizer.chat_template
        if not isinstance(found, str):
            raise MetroFastError(
                f"the tokenizer of {self._name} has no chat template; run without "
                "apply_chat_template"
            )
        return found

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The text of a conversation."""
        return str(
            self._tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def get_model_info(self) -> dict[str, Any]:
        """Facts about the model that lm-eval writes into its results."""
        return {"model": self._name, "model_device": str(self._device)}


register_model("metro_fast")(MetroFastLM)
