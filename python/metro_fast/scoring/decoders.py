"""The two kinds of models behind one face: read a context once, then branches of answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from metro_fast.errors import MetroFastError
from metro_fast.scoring.batches import pad
from metro_fast.scoring.causal_decoder import CausalDecoder
from metro_fast.scoring.decoder import (
    Decoder,
    Started,
    cache_name,
    cache_of,
    parameters_of,
)
from metro_fast.scoring.trie import Tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache

__all__ = ["CausalDecoder", "Decoder", "EncoderDecoder", "Started", "make_decoder"]


def make_decoder(model: "PreTrainedModel", padding_side: str) -> Decoder:
    """Check a model, and choose its kind."""
    peft_config = getattr(model, "active_peft_config", None)
    if peft_config is not None and peft_config.is_prompt_learning:
        # PeftModel.forward adds the virtual tokens; a call of the bare encoder does not.
        raise MetroFastError(
            f"{peft_config.peft_type} adds virtual tokens, which encoding once would leave out; "
            "score LoRA or IA3 experts"
        )
    if getattr(model.config, "is_encoder_decoder", False):
        return EncoderDecoder(model)
    return CausalDecoder(model, padding_side)


class EncoderDecoder:
    """T5 and its relatives: the context is what the encoder reads."""

    causal = False
    reads_trees = False

    def __init__(self, model: "PreTrainedModel") -> None:
        if any(parameter.dtype == torch.float16 for parameter in model.parameters()):
            raise MetroFastError(
                "the model is in float16, in which T5 overflows and ranks choices at random; "
                "load it in bfloat16 or float32"
            )
        if model.config.decoder_start_token_id is None:
            raise MetroFastError(
                "model.config.decoder_start_token_id is None; set it to the id that starts a "
                "target, for T5 that of padding"
            )
        self.model = model
        self._cache = cache_name(parameters_of(model))

    def start(self, contexts: Sequence[Sequence[int]], *, cache: bool) -> Started:
        """Encode contexts, and read the start token."""
        ids, mask = pad(contexts, self.model.device)
        encoder = self.model.get_encoder()
        states = encoder(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state
        begin = ids.new_full((len(ids), 1), self.model.config.decoder_start_token_id)
        output = self._call(states, mask, begin, None, cache)
        return Started(output.logits[:, 0], cache_of(output) if cache else None, mask, states)

    def read(
        self,
        started: Started,
        cache: "Cache",
        contexts: torch.Tensor,
        ids: torch.Tensor,
        depth: int,
    ) -> "tuple[torch.Tensor, Cache]":
        """Read tokens of targets after the start token."""
        assert started.states is not None
        states = started.states.index_select(0, contexts)
        output = self._call(states, started.mask.index_select(0, contexts), ids, cache, True)
        return output.logits, cache_of(output)

    def read_tree(self, started: Started, cache: "Cache", tree: Tree) -> torch.Tensor:
        """Not offered: relative positions come from the order of the tokens."""
        raise NotImplementedError

    def _call(
        self,
        states: torch.Tensor,
        mask: torch.Tensor,
        ids: torch.Tensor,
        cache: "Cache | None",
        use_cache: bool,
    ) -> Any:
        # No decoder mask: padding is on the right of a causal decoder, where no real token sees it.
        return self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            attention_mask=mask,
            decoder_input_ids=ids,
            use_cache=use_cache,
            return_dict=True,
            **{self._cache: cache},
        )
