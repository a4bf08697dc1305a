"""Weights that two layers share: an adapter of one of them is merged into that one alone."""

from pathlib import Path
from typing import Any

import pytest

from metro_fast import MetroFastError
from metro_fast.experts import Expert, add_to_base, compress, load_expert, task_vector

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from model_state import ModelState
from refusals import llama, lora, moved, t5

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(tie_word_embeddings|save_embedding_layers|ensure_weight_tying):UserWarning"
)
SIZES = {"n_embd": 16, "n_layer": 1, "n_head": 2}
BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def gpt2() -> Any:
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=40, **SIZES))


def bert() -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=40, intermediate_size=16, **BERT)
    return transformers.BertForMaskedLM(config)


def bart() -> Any:
    torch.manual_seed(0)
    layers = {
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
    }
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = transformers.BartConfig(vocab_size=40, d_model=16, **layers, **heads)
    return transformers.BartForConditionalGeneration(config)


def gemma3() -> Any:
    """A model of text and images, whose text has a configuration of its own."""
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}
    text = layers | {"vocab_size": 40, "intermediate_size": 24, "num_key_value_heads": 2}
    images = layers | {"intermediate_size": 16, "image_size": 28, "patch_size": 14}
    config = transformers.Gemma3Config(
        text_config=text | {"head_dim": 8},
        vision_config=images,
        mm_tokens_per_image=4,
        image_token_index=39,
    )
    return transformers.Gemma3ForConditionalGeneration(config)


def logits(model: Any) -> Any:
    ids = torch.arange(1, 9)[None]
    more = {"labels": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model.eval()(input_ids=ids, **more).logits


def expert_of(make: Any, folder: Path, **options: Any) -> Expert:
    moved(peft.get_peft_model(make(), lora(**options))).save_pretrained(folder)
    return compress(folder, density=0.5)


CASES = {
    "head": (llama, {"target_modules": ["lm_head"]}),
    "embedding": (llama, {"target_modules": ["embed_tokens"]}),
    "both": (llama, {"target_modules": ["embed_tokens", "lm_head", "q_proj"]}),
    "tied adapters": (llama, {"target_modules": ["embed_tokens"], "ensure_weight_tying": True}),
    "trained head": (llama, {"modules_to_save": ["lm_head"]}),
    "trained embedding": (llama, {"modules_to_save": ["embed_tokens"]}),
    "trained and tied": (llama, {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}),
    "GPT-2 embedding": (gpt2, {"target_modules": ["wte"]}),
    "GPT-2 head": (gpt2, {"target_modules": ["lm_head", "c_attn"]}),
    "BERT head": (bert, {"target_modules": ["decoder"]}),
    "BERT embedding": (bert, {"target_modules": ["word_embeddings"]}),
    "Gemma 3 head": (gemma3, {"target_modules": ["lm_head"]}),
    "Gemma 3 embedding": (gemma3, {"target_modules": ["embed_tokens"]}),
    "T5 head": (t5, {"target_modules": ["lm_head", "q"]}),
    "T5 trained head": (t5, {"target_modules": ["q"], "modules_to_save": ["lm_head"]}),
}


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_the_merged_model_answers_as_the_adapted_one(case: str, tmp_path: Path) -> None:
    """PEFT's own merge into the shared weight is off by up to fifty times the adapter's effect."""
    make, options = CASES[case]
    expert = expert_of(make, tmp_path / "adapter", **options)
    plain, wanted = logits(make()), logits(load_expert(make(), expert))
    effect = float((wanted - plain).abs().max())
    vector = task_vector(expert.state_dict(), kind="lora")
    vector = type(vector)(**vars(vector) | {"config": expert.config})
    for source in (expert, vector):
        model = add_to_base(make(), source)
        error = float((logits(model) - wanted).abs().max())
        assert effect > 0.05
        assert error < 2e-6
        model.save_pretrained(tmp_path / "whole")
        again = type(model).from_pretrained(tmp_path / "whole")
        assert float((logits(again) - wanted).abs().max()) < 2e-6


def test_the_command_writes_a_model_with_two_ends(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from metro_fast.cli.expert_merge import app

    llama().save_pretrained(tmp_path / "base")
    adapted = moved(peft.get_peft_model(llama(), lora(target_modules=["lm_head", "q_proj"])))
    expert = compress(adapted, density=0.5)
    expert.save(tmp_path / "expert")
    options = ["--base", str(tmp_path / "base"), "--out", str(tmp_path / "whole")]
    done = CliRunner().invoke(app, [str(tmp_path / "expert"), *options])
    assert done.exit_code == 0, (done.output, done.exception)
    found = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "whole")
    wanted = logits(load_expert(llama(), expert))
    assert float((logits(found) - wanted).abs().max()) < 2e-6
    assert float((logits(llama()) - wanted).abs().max()) > 0.05


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (
            t5,
            {"target_modules": ["shared"]},
            r"shared shares its weight with encoder\.embed_tokens",
        ),
        (t5, {"modules_to_save": ["shared"], "target_modules": ["q"]}, r"shared shares its weight"),
        (bart, {"target_modules": ["lm_head"]}, r"lm_head shares its weight with model\.shared"),
        (bart, {"modules_to_save": ["lm_head"]}, r"lm_head shares its weight with model\.shared"),
    ],
)
def test_what_no_configuration_can_say_is_refused(
    make: Any, options: Any, message: str, tmp_path: Path
) -> None:
    """T5 and BART tie the embeddings of the encoder, of the decoder, and the head to one.

    BART whose head alone is untied is saved with one matrix for three places, and with
    tie_word_embeddings=False it reads two of them at random: its logits were 0.8 off.
    """
    expert = expert_of(make, tmp_path, **options)
    model = make()
    before = ModelState(model)
    with pytest.raises(MetroFastError, match=message):
        add_to_base(model, expert)
    assert before.differences(ModelState(model)) == []
    assert logits(load_expert(model, expert)).shape == (1, 8, 40)


def test_layers_that_share_a_weight_by_hand_are_refused() -> None:
    """PEFT adapts the first place of a shared layer; the second has the base's own weight."""

    def base(how: str) -> Any:
        torch.manual_seed(0)
        one, two = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        if how == "layer":
            two = one
        elif how == "parameter":
            two.weight = one.weight
        else:  # a slice of the same memory
            whole = torch.randn(6, 4)
            one.weight.data, two.weight.data = whole[:4], whole[2:]
        return torch.nn.Sequential(one, two)

    config = peft.LoraConfig(r=2, target_modules=["0"])
    for how in ("layer", "parameter", "memory"):
        expert = compress(moved(peft.get_peft_model(base(how), config)), density=0.5)
        model = base(how)
        before = ModelState(model)
        with pytest.raises(MetroFastError, match=r"0 shares its weight with 1\.weight"):
            add_to_base(model, expert)
        assert before.differences(ModelState(model)) == [], how


def test_slices_that_do_not_overlap_are_merged() -> None:
    """Some loaders cut all weights from one piece of memory."""

    def base() -> Any:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
        whole = torch.randn(8, 4)
        model[0].weight.data, model[1].weight.data = whole[:4], whole[4:]
        return model

    config = peft.LoraConfig(r=2, target_modules=["0", "1"])
    expert = compress(moved(peft.get_peft_model(base(), config)), density=0.5)
    inputs = torch.ones(1, 4)
    wanted = load_expert(base(), expert)(inputs)
    torch.testing.assert_close(add_to_base(base(), expert)(inputs), wanted)


def test_a_full_residual_of_untied_weights_is_not_squeezed_into_one() -> None:
    start = llama(tied=False).state_dict()
    tuned = {name: tensor + 0.1 for name, tensor in start.items()}
    tuned["lm_head.weight"] = tuned["lm_head.weight"] * 2
    expert = compress(tuned, kind="full", initial=start, density=1.0)
    model = llama()
    before = ModelState(model)
    with pytest.raises(MetroFastError, match="one weight in the model and two in the expert"):
        load_expert(model, expert, initial=start)
    assert before.differences(ModelState(model)) == []
    load_expert(llama(tied=False), expert, initial=start)
