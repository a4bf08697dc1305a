"""METRO-T0's architecture as a model of transformers: padding, cache, training, files, refusals."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForSeq2SeqLM, Seq2SeqTrainer, Seq2SeqTrainingArguments

from metro_fast.errors import MetroFastError
from metro_fast.metro import (
    MetroT0Config,
    MetroT0EncoderModel,
    MetroT0ForConditionalGeneration,
)
from metro_t0_cases import PAD, VOCAB, gradients, metro_t0, metro_t0_config, ragged


@pytest.mark.parametrize("left", [False, True])
def test_padding_on_either_side_changes_nothing(left: bool) -> None:
    model, batch = metro_t0(), ragged(left=left)
    mask = batch["attention_mask"]
    with torch.no_grad():
        together = model(
            input_ids=batch["input_ids"],
            attention_mask=mask,
            decoder_input_ids=batch["input_ids"],
            decoder_attention_mask=mask,
        )
        for row, tokens in enumerate(mask.bool()):
            alone = batch["input_ids"][row, tokens][None]
            output = model(input_ids=alone, decoder_input_ids=alone)
            encoded = together.encoder_last_hidden_state[row, tokens]
            torch.testing.assert_close(
                encoded, output.encoder_last_hidden_state[0], rtol=0, atol=2e-5
            )
            logits = together.logits[row, tokens]
            torch.testing.assert_close(logits, output.logits[0], rtol=0, atol=2e-5)


def test_the_mask_decides_what_is_padding_not_the_id() -> None:
    model = metro_t0()
    ids = torch.tensor([[9, PAD, 8, 7]])
    with torch.no_grad():
        tokens = model.encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
        without = model.encoder(input_ids=ids)
        other = model.encoder(input_ids=ids, attention_mask=(ids != PAD).long())
    torch.testing.assert_close(tokens.last_hidden_state, without.last_hidden_state)
    assert not torch.allclose(tokens.last_hidden_state[0, 3], other.last_hidden_state[0, 3])


def test_a_row_of_padding_alone_stays_finite() -> None:
    for attention in ("eager", "sdpa"):
        batch = ragged((6, 3))
        batch["attention_mask"][1] = 0
        found = gradients(metro_t0(attention), batch)
        assert all(gradient.isfinite().all() for gradient in found.values())


def test_eager_and_sdpa_agree() -> None:
    batch = ragged()
    eager, sdpa = (gradients(metro_t0(name), batch) for name in ("eager", "sdpa"))
    for name, gradient in eager.items():
        torch.testing.assert_close(sdpa[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_attention_that_cannot_take_distances_is_refused() -> None:
    with pytest.raises(ValueError, match="does not support Flash Attention 2"):
        metro_t0("flash_attention_2")


@pytest.mark.parametrize("search", [{}, {"num_beams": 3}])
def test_cached_generation_equals_uncached(search: dict[str, int]) -> None:
    model, batch = metro_t0(), ragged()
    options = {**search, "max_new_tokens": 12, "do_sample": False}
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    cached = model.generate(**inputs, **options, use_cache=True)
    assert torch.equal(cached, model.generate(**inputs, **options, use_cache=False))
    assert cached.shape[1] > 4


def test_cached_logits_equal_those_of_the_whole_sequence() -> None:
    model, batch = metro_t0(), ragged()
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        encoded = model.encoder(input_ids=ids, attention_mask=mask)
        whole = model(encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=ids).logits
        past, steps = None, []
        for at in range(ids.shape[1]):
            output = model(
                encoder_outputs=encoded,
                attention_mask=mask,
                decoder_input_ids=ids[:, at : at + 1],
                past_key_values=past,
                use_cache=True,
            )
            past = output.past_key_values
            steps.append(output.logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=0, atol=2e-5)


def test_encoder_and_decoder_can_be_called_as_metro_calls_those_of_t5() -> None:
    model, batch = metro_t0(), ragged()
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        hidden = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        decoded = model.decoder(
            input_ids=ids,
            encoder_hidden_states=hidden,
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        logits = torch.nn.functional.linear(decoded, model.shared.weight)
        whole = model(input_ids=ids, attention_mask=mask, decoder_input_ids=ids)
    assert torch.equal(logits, whole.logits)
    assert model.get_encoder() is model.encoder
    assert model.get_decoder() is model.decoder


def test_hidden_states_and_attentions_are_returned_when_asked_for() -> None:
    output = metro_t0("eager")(**ragged(), output_hidden_states=True, output_attentions=True)
    assert len(output.encoder_hidden_states) == 3  # the embeddings, and two blocks
    assert len(output.decoder_hidden_states) == 4
    assert [a.shape[-2:] for a in output.encoder_attentions] == [(13, 13)] * 2
    assert [len(output.decoder_attentions), len(output.cross_attentions)] == [3, 3]
    torch.testing.assert_close(output.encoder_hidden_states[-1], output.encoder_last_hidden_state)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_checkpointing_gives_equal_gradients(dropout: float) -> None:
    model, batch = metro_t0(dropout_rate=dropout, attention_dropout=dropout).train(), ragged()
    torch.manual_seed(1)
    plain = gradients(model, batch)
    model.gradient_checkpointing_enable()
    assert model.encoder.block[0].gradient_checkpointing
    torch.manual_seed(1)
    for name, gradient in gradients(model, batch).items():
        assert torch.equal(gradient, plain[name]), name


def test_every_parameter_takes_part_in_a_step() -> None:
    for name, gradient in gradients(metro_t0(), ragged()).items():
        # A constant added to all keys of a query changes no probability.
        assert gradient.abs().sum() > 0 or name.endswith("Attention.k.bias"), name


def test_a_stock_trainer_trains_it_with_one_update_for_any_split(tmp_path) -> None:
    batch = ragged((13, 5, 9, 3))
    rows = [{name: value[i] for name, value in batch.items()} for i in range(4)]

    def trained(size: int, accumulation: int, steps: int) -> Seq2SeqTrainer:
        trainer = Seq2SeqTrainer(
            metro_t0(),
            Seq2SeqTrainingArguments(
                str(tmp_path),
                use_cpu=True,
                disable_tqdm=True,
                report_to="none",
                optim="sgd",
                learning_rate=0.2,
                lr_scheduler_type="constant",
                max_steps=steps,
                logging_steps=1,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=accumulation,
                predict_with_generate=True,
                save_strategy="no",
                train_sampling_strategy="sequential",
                max_grad_norm=0.0,
            ),
            train_dataset=rows,
        )
        trainer.train()
        return trainer

    whole, split = trained(4, 1, 1), trained(1, 4, 1)
    for (name, one), other in zip(
        whole.model.named_parameters(), split.model.parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=name)
    longer = trained(4, 1, 15)
    losses = [line["loss"] for line in longer.state.log_history if "loss" in line]
    assert losses[-1] < losses[0] - 0.5
    predicted = longer.predict(rows[:2], max_length=5).predictions
    inputs = {name: batch[name][:2] for name in ("input_ids", "attention_mask")}
    generated = longer.model.generate(**inputs, max_length=5)
    assert predicted[:, :5].tolist() == generated.tolist()


def test_one_compiled_graph_gives_the_same_loss() -> None:
    model, batch = metro_t0(num_layers=1, num_decoder_layers=1), ragged()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(**batch).loss, model(**batch).loss)


def test_saved_and_loaded_by_the_auto_classes_bit_for_bit(tmp_path, caplog) -> None:
    model, batch = metro_t0(), ragged()
    model.save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors")
    assert [name for name in names if "embed_tokens" in name or "lm_head" in name] == []
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert isinstance(loaded, MetroT0ForConditionalGeneration)
    assert loaded.config.to_dict() == {**model.config.to_dict(), **_written_by_saving(loaded)}
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    encoder = AutoModel.from_pretrained(tmp_path)
    assert isinstance(encoder, MetroT0EncoderModel)
    with torch.no_grad():
        ids = {name: batch[name] for name in ("input_ids", "attention_mask")}
        states = encoder(**ids).last_hidden_state
        assert torch.equal(states, model.encoder(**ids).last_hidden_state)
    assert not any(word in caplog.text.lower() for word in ("missing", "unexpected"))


def _written_by_saving(model: MetroT0ForConditionalGeneration) -> dict[str, Any]:
    described = model.config.to_dict()
    return {name: described[name] for name in ("architectures", "dtype", "_name_or_path")}


def test_one_matrix_is_both_embeddings_and_the_output_also_after_resizing() -> None:
    model, batch = metro_t0(), ragged()
    with torch.no_grad():
        before = model(**batch).logits
    model.resize_token_embeddings(70, mean_resizing=False)
    tied = (model.encoder.embed_tokens, model.decoder.embed_tokens, model.lm_head)
    assert all(layer.weight is model.shared.weight for layer in tied)
    assert model.get_output_embeddings() is model.lm_head
    assert (model.config.vocab_size, model.shared.weight.shape[0]) == (70, 70)
    with torch.no_grad():
        after = model(**batch).logits
    assert after.shape[-1] == 70
    assert torch.equal(after[..., :VOCAB], before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_heads": 5}, "num_heads is 5, expected a divisor of d_model 32"),
        ({"dropout_rate": 1.5}, "dropout_rate is 1.5"),
        ({"relative_attention_num_buckets": 33}, "expected an even number from 4 on"),
        ({"relative_attention_max_distance": 9}, "is 9, expected more than 9"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"initializer": "he"}, "initializer is 'he', expected xavier, published or bert"),
        ({"num_layers": 0}, "num_layers is 0, expected at least 1"),
    ],
)
def test_settings_that_make_no_model_are_refused(settings, message) -> None:
    with pytest.raises(MetroFastError, match=message):
        metro_t0_config(**settings)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(MetroFastError, match=r"preset is 'huge', expected small, base"):
        MetroT0Config.preset("huge")


def test_a_sequence_beyond_the_learned_positions_is_refused() -> None:
    ids = torch.full((1, 41), 9)
    with pytest.raises(MetroFastError, match=r"the sequence has 41 tokens.*end at 40"):
        metro_t0().encoder(input_ids=ids)


def test_inputs_that_leave_something_open_are_refused() -> None:
    model, ids = metro_t0(), torch.full((1, 4), 9)
    with pytest.raises(MetroFastError, match="neither of input_ids and inputs_embeds"):
        model.encoder()
    with pytest.raises(MetroFastError, match=r"shape \(1, 1, 4, 4\), expected \[batch, length\]"):
        model.encoder(input_ids=ids, attention_mask=torch.ones(1, 1, 4, 4))
    with pytest.raises(MetroFastError, match="encoder_hidden_states is missing"):
        model.decoder(input_ids=ids)
    model.config.decoder_start_token_id = None
    with pytest.raises(MetroFastError, match="decoder_start_token_id is None"):
        model(input_ids=ids, labels=ids)
