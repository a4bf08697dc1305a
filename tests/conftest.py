"""Fixtures that every test may use."""

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

import metro_fast

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, T5ForConditionalGeneration

# torch reads it when it is imported, here and in the processes that tests start. The threads of
# models this small only wait for each other, and the tests themselves run in several processes.
os.environ["OMP_NUM_THREADS"] = "1"
# The server from which warm_processes.py and some data loaders fork, started when first needed.
multiprocessing.set_forkserver_preload(
    ["metro_fast.metro.trainer", "metro_fast.metro.modeling", "peft"]
)

# A pause of a busy machine is not a failure.
settings.register_profile("metro_fast", deadline=None)
settings.load_profile("metro_fast")

TINY_WORDS = (
    "the a of in is are was and or not yes no what which who where how many . , ? : ! "
    "one two three four five red green blue good bad cat dog bird fish house river city capital "
    "country continent border north south paris rome oslo france italy norway lies flows eats sees "
    "answer question choose between text passage relation entity find read mentioned option"
)


@pytest.fixture(scope="module", params=["scalar", "avx2", "avx512"])
def simd(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set in turn, for every native call of the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METRO_FAST_SIMD", request.param)
        try:
            assert metro_fast._core.simd_level() == request.param
        except metro_fast.MetroFastError as error:
            pytest.skip(str(error))
        yield request.param


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """Folder of values computed by upstream's code; its README says how."""
    return Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def tiny_tokenizer() -> "PreTrainedTokenizerFast":
    """Words of a fixed list; pad 0, eos 1 (ends every text), unk 2, mask 3, sentinels 4 to 19."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    sentinels = [f"<extra_id_{i}>" for i in range(16)]
    pieces = ["<pad>", "</s>", "<unk>", "<mask>", *sentinels, *TINY_WORDS.split()]
    backend = Tokenizer(
        models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        extra_special_tokens=sentinels,
    )


@pytest.fixture(scope="session")
def real_model() -> "tuple[LlamaForCausalLM, PreTrainedTokenizerFast]":
    """SmolLM2-135M-Instruct and its tokenizer; a test that needs it is skipped where it is absent.

    `make real-model` fetches it.
    """
    from real_model import absence, load

    reason = absence()
    if reason is not None:
        pytest.skip(reason)
    return load()


@pytest.fixture
def tiny_t5(tiny_tokenizer: "PreTrainedTokenizerFast") -> "T5ForConditionalGeneration":
    """A T5 of width 32 with random weights, the same ones in every test, in evaluation mode."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=len(tiny_tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        dropout_rate=0.1,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = T5ForConditionalGeneration(config)
        # T5's own initialization gives nearly equal logits; larger weights make mistakes visible.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.3)
    return model.eval()
