"""Fingerprints: equal for equal models, whatever wraps them, and for no other model."""

import copy
import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from metro_fast.errors import MetroFastError
from metro_fast.scoring import model_fingerprint, tensor_digests, tokenizer_fingerprint


def rows_swapped(weight):
    rows = weight.data[[1, 0]]
    weight.data[[0, 1]] = rows


def signs_flipped(weight):
    # Two flips change neither the sum of 64-bit words nor their exclusive or.
    weight.data[0, 1] *= -1
    weight.data[0, 5] *= -1


def swapped(weight):
    first = weight.data[0, 0].clone()
    weight.data[0, 0] = weight.data[2, 2]
    weight.data[2, 2] = first


def moved_between(weight):
    weight.data[3, 3] += 0.5
    weight.data[4, 4] -= 0.5


def written_by_numpy(weight):
    weight.detach().numpy()[0, 0] += 1e-3


def storage_replaced(weight):
    weight.data = weight.data + 1e-3


def storage_set(weight):
    with torch.no_grad():
        weight.set_(weight.data.flip(0).contiguous())


def zero_negated(weight):
    weight.data[0, 0] = -0.0


CHANGES = [
    lambda weight: weight.data.add_(1e-3),
    lambda weight: weight.data.neg_(),
    lambda weight: weight.data.copy_(weight.data.flip(0)),
    lambda weight: weight.data.view(torch.int32)[0].__setitem__(0, 7),
    rows_swapped,
    signs_flipped,
    swapped,
    moved_between,
    written_by_numpy,
    storage_replaced,
    storage_set,
    zero_negated,
]


class TestChanges:
    def test_a_saved_model_keeps_its_hash(self, tiny_t5, tmp_path: Path):
        tiny_t5.save_pretrained(tmp_path)
        loaded = type(tiny_t5).from_pretrained(tmp_path)
        assert model_fingerprint(loaded) == model_fingerprint(tiny_t5)
        assert model_fingerprint(loaded.bfloat16()) != model_fingerprint(tiny_t5)

    def test_one_weight_changes_it(self, tiny_t5):
        before = model_fingerprint(tiny_t5)
        with torch.no_grad():
            tiny_t5.shared.weight[3, 3] += 1e-3
        assert model_fingerprint(tiny_t5) != before

    @pytest.mark.parametrize("change", CHANGES)
    def test_no_change_of_a_tensor_is_missed(self, tiny_t5, change):
        weight = tiny_t5.encoder.block[1].layer[0].SelfAttention.k.weight
        weight.data[0, 0] = 0.0
        before, values = model_fingerprint(tiny_t5), weight.data.clone()
        change(weight)
        assert model_fingerprint(tiny_t5) != before
        weight.data.copy_(values)
        assert model_fingerprint(tiny_t5) == before

    def test_names_shapes_dtypes_buffers_and_settings_count(self, tiny_t5):
        seen = {model_fingerprint(tiny_t5)}
        tiny_t5.register_buffer("extra", torch.zeros(4))
        seen.add(model_fingerprint(tiny_t5))
        tiny_t5.extra.add_(1)
        seen.add(model_fingerprint(tiny_t5))
        tiny_t5.extra = tiny_t5.extra.view(2, 2)
        seen.add(model_fingerprint(tiny_t5))
        tiny_t5.extra = tiny_t5.extra.view(torch.int32)
        seen.add(model_fingerprint(tiny_t5))
        tiny_t5.config.relative_attention_max_distance += 1
        seen.add(model_fingerprint(tiny_t5))
        assert len(seen) == 6
        tiny_t5.config._name_or_path = "elsewhere"
        assert model_fingerprint(tiny_t5) in seen

    def test_memory_that_is_used_again_is_not_mistaken(self):
        places, seen = set(), set()
        for value in range(200):
            tensor = torch.full((1000,), value)
            places.add(tensor.data_ptr())
            seen.add(tensor_digests.tensor_digest(tensor))
            del tensor
        assert len(seen) == 200
        assert len(places) < 200

    def test_a_tensor_without_values_is_refused_by_name(self, tiny_t5):
        with pytest.raises(MetroFastError, match=r"embed_tokens\.weight is on the meta"):
            model_fingerprint(tiny_t5.decoder.to("meta"))

    def test_using_a_tokenizer_does_not_change_it(self, tiny_tokenizer):
        before = tokenizer_fingerprint(tiny_tokenizer)
        tiny_tokenizer(["the cat"], truncation=True, max_length=2, padding="max_length")
        assert tokenizer_fingerprint(tiny_tokenizer) == before
        other = copy.deepcopy(tiny_tokenizer)
        other.add_tokens(["zebra"])
        assert tokenizer_fingerprint(other) != before


class TestDigests:
    @pytest.mark.parametrize(
        "tensor",
        [
            torch.arange(6.0),
            torch.arange(6.0).bfloat16().view(2, 3).T,
            torch.tensor(3, dtype=torch.int64),
            torch.zeros(0),
            torch.tensor([True, False, True]),
            torch.arange(7.0).to(torch.float8_e4m3fn),
            torch.ones(3, dtype=torch.complex64).conj(),
        ],
    )
    def test_a_digest_is_that_of_the_bytes_in_row_major_order(self, tensor):
        whole = tensor.resolve_conj().contiguous().reshape(-1).view(torch.uint8)
        expected = hashlib.sha256(bytes(whole.tolist())).digest()
        assert tensor_digests.tensor_digest(tensor) == expected
        assert tensor_digests.tensor_digest(tensor.clone()) == expected  # from the table

    @pytest.mark.parametrize("count", [0, 1, 4, 5, 4 * 65536 - 1, 4 * 65536, 4 * 65536 + 1])
    def test_weighted_sums_equal_those_of_whole_numbers(self, count):
        data = np.random.default_rng(0).integers(0, 256, count, dtype=np.uint8)
        generator = torch.Generator().manual_seed(tensor_digests._seed)
        weights = torch.randint(
            -(2**63), 2**63 - 1, (2, 65536), dtype=torch.int64, generator=generator
        ).tolist()
        words = np.frombuffer(data.tobytes() + bytes(-count % 4), dtype="<i4").tolist()
        expected = b"".join(
            (sum(w * x for w, x in zip(row, words[start:], strict=False)) % 2**64).to_bytes(
                8, "little"
            )
            for start in range(0, len(words), 65536)
            for row in weights
        )
        assert tensor_digests.weighted_sums(torch.from_numpy(data)) == expected

    @pytest.mark.parametrize("change", CHANGES)
    def test_weighted_sums_miss_no_change(self, change):
        weight = torch.nn.Parameter(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))
        weight.data[0, 0] = 0.0
        before = tensor_digests.weighted_sums(weight.detach().view(-1).view(torch.uint8))
        change(weight)
        after = tensor_digests.weighted_sums(weight.detach().view(-1).view(torch.uint8))
        assert before != after


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the tensors that SHA-256 read, from an empty table on."""
    sizes: list[int] = []

    def sha256(data):
        sizes.append(len(data))
        return hashlib.sha256(data)

    monkeypatch.setattr(tensor_digests, "hashlib", SimpleNamespace(sha256=sha256))
    monkeypatch.setattr(tensor_digests, "_digests", {})
    return sizes


def configs(peft):
    return {
        "lora": peft.LoraConfig(r=2, target_modules=["q", "v", "wo"]),
        "embedding": peft.LoraConfig(r=2, target_modules=["q", "embed_tokens"]),
        "dora": peft.LoraConfig(r=2, target_modules=["q"], use_dora=True),
        "head": peft.LoraConfig(r=2, target_modules=["q"], modules_to_save=["lm_head"]),
        "tokens": peft.LoraConfig(r=2, target_modules=["q"], trainable_token_indices=[3, 4]),
        "ia3": peft.IA3Config(target_modules=["k", "wo"], feedforward_modules=["wo"]),
    }


def nudge(model, adapter="default"):
    """Values in place of training."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if adapter in name.split("."):
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


# PEFT warns about LoRA and copies of tied weights; neither is merged or saved here.
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
class TestAdapters:
    def test_adapters_switched_off_or_scaled_differ(self, tiny_t5):
        peft = pytest.importorskip("peft")
        config = peft.LoraConfig(r=2, target_modules=["q"], task_type="SEQ_2_SEQ_LM")
        expert = peft.get_peft_model(tiny_t5, config)
        on = model_fingerprint(expert)
        with expert.disable_adapter():
            assert model_fingerprint(expert) != on
        assert model_fingerprint(expert) == on
        for module in expert.modules():
            if isinstance(getattr(module, "scaling", None), dict):
                module.scaling["default"] *= 2
        assert model_fingerprint(expert) != on

    @pytest.mark.parametrize("kind", ["lora", "embedding", "dora", "head", "tokens", "ia3"])
    def test_only_what_computes_counts(self, tiny_t5, kind):
        peft = pytest.importorskip("peft")
        plain = model_fingerprint(tiny_t5)
        inputs = {"input_ids": torch.tensor([[3, 30, 40, 1]]), "labels": torch.tensor([[30, 1]])}
        with torch.no_grad():
            before = tiny_t5(**inputs).logits
        expert = peft.get_peft_model(tiny_t5, configs(peft)[kind]).eval()
        nudge(expert)
        on = model_fingerprint(expert)
        assert on != plain
        with expert.disable_adapter(), torch.no_grad():
            assert torch.equal(expert(**inputs).logits, before)  # so the same hash is right
            assert model_fingerprint(expert) == plain
        expert.add_adapter("other", configs(peft)[kind])
        nudge(expert, "other")
        nudge(expert, "other")
        assert model_fingerprint(expert) == on
        expert.set_adapter("other")
        other = model_fingerprint(expert)
        assert other not in (on, plain)
        expert.set_adapter("default")
        expert.delete_adapter("other")
        assert model_fingerprint(expert) == on
        nudge(expert)
        assert model_fingerprint(expert) not in (on, other, plain)
        base = expert.unload()
        # PEFT leaves a trained head in the model.
        assert (model_fingerprint(base) == plain) == (kind != "head")

    @pytest.mark.parametrize("kind", ["lora", "ia3"])
    def test_a_merged_adapter_changes_the_base(self, tiny_t5, kind):
        peft = pytest.importorskip("peft")
        plain = model_fingerprint(tiny_t5)
        expert = peft.get_peft_model(tiny_t5, configs(peft)[kind])
        nudge(expert)
        on = model_fingerprint(expert)
        whole = model_fingerprint(copy.deepcopy(expert).merge_and_unload())
        assert whole not in (on, plain)
        expert.merge_adapter()
        assert model_fingerprint(expert) not in (on, plain)

    def test_both_adapters_of_a_sum_count(self, tiny_t5):
        peft = pytest.importorskip("peft")
        expert = peft.get_peft_model(tiny_t5, configs(peft)["lora"])
        expert.add_adapter("other", configs(peft)["lora"])
        one = model_fingerprint(expert)
        expert.base_model.set_adapter(["default", "other"])
        both = model_fingerprint(expert)
        assert both != one
        nudge(expert, "other")
        assert model_fingerprint(expert) not in (one, both)

    def test_tensors_that_layers_share_and_virtual_tokens_count(self, tiny_t5):
        peft = pytest.importorskip("peft")
        plain = model_fingerprint(tiny_t5)
        for config in (
            peft.VeraConfig(r=2, target_modules=["o"]),
            peft.PromptTuningConfig(num_virtual_tokens=3, task_type="SEQ_2_SEQ_LM"),
        ):
            expert = peft.get_peft_model(copy.deepcopy(tiny_t5), config)
            seen = [plain, model_fingerprint(expert)]
            nudge(expert)
            seen.append(model_fingerprint(expert))
            for buffer in expert.buffers():
                if buffer.numel() and buffer.is_floating_point():
                    buffer.add_(0.5)
                    seen.append(model_fingerprint(expert))
            with expert.disable_adapter():
                assert model_fingerprint(expert) != seen[-1]
            assert len(set(seen)) == len(seen)

    def test_a_base_is_hashed_once_for_all_its_experts(self, tiny_t5, hashed):
        pytest.importorskip("peft")
        from peft import LoraConfig, get_peft_model

        from metro_fast.experts import ExpertPool, compress, load_expert

        def expert(seed: int):
            adapted = get_peft_model(
                copy.deepcopy(tiny_t5), LoraConfig(r=2, target_modules=["q", "v"])
            )
            torch.manual_seed(seed)
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    torch.nn.init.normal_(parameter)
            return compress(adapted, density=0.5)

        experts = {name: expert(i) for i, name in enumerate("abc")}
        plain = model_fingerprint(tiny_t5)
        different = {t.numpy(force=True).tobytes() for t in tiny_t5.parameters()}
        assert sum(hashed) == sum(map(len, different))
        hashed.clear()
        alone = {}
        for name, found in experts.items():
            adapted = load_expert(copy.deepcopy(tiny_t5), found)
            alone[name] = model_fingerprint(adapted)
            own = [p for n, p in adapted.named_parameters() if "lora_" in n]
            assert sum(hashed) == sum(p.numel() * 4 for p in own)  # none of the base
            hashed.clear()
        assert len({plain, *alone.values()}) == 4

        pool = ExpertPool(tiny_t5)
        for name, found in experts.items():
            pool.add(name, found)
        for name in "abcab":
            with pool.use(name) as model:
                assert model_fingerprint(model) == alone[name]
        pool.remove("c")
        assert model_fingerprint(pool.model) == alone["b"]
        with pool.model.disable_adapter():
            assert model_fingerprint(pool.model) == plain
        assert hashed == []

    def test_an_expert_has_one_hash_however_it_is_loaded(self, tiny_t5, tmp_path):
        peft = pytest.importorskip("peft")
        from metro_fast.experts import compress, load_expert, load_experts

        plain = model_fingerprint(tiny_t5)
        trained = peft.get_peft_model(copy.deepcopy(tiny_t5), configs(peft)["lora"])
        nudge(trained)
        found = compress(trained, density=0.5)
        found.save(tmp_path / "expert")
        loaded = load_expert(copy.deepcopy(tiny_t5), tmp_path / "expert")
        one = model_fingerprint(loaded)
        loaded.save_pretrained(tmp_path / "peft")
        by_peft = peft.PeftModel.from_pretrained(copy.deepcopy(tiny_t5), tmp_path / "peft")
        assert model_fingerprint(by_peft) == one != plain
        seen = {plain, one}
        both = {"a": found, "b": found}
        for weights in ({"a": 0.7}, {"a": 0.6}, {"a": 0.7, "b": 0.5}, {"b": 0.7}):
            model = load_experts(copy.deepcopy(tiny_t5), both, weights)
            seen.add(model_fingerprint(model))
            with model.disable_adapter():
                assert model_fingerprint(model) == plain
        assert len(seen) == 6  # names count too

    def test_an_adapter_of_transformers_itself(self, tiny_t5):
        peft = pytest.importorskip("peft")
        plain = model_fingerprint(tiny_t5)
        tiny_t5.add_adapter(configs(peft)["lora"], "one")
        on = model_fingerprint(tiny_t5)
        assert on != plain
        tiny_t5.disable_adapters()
        assert model_fingerprint(tiny_t5) == plain
        tiny_t5.enable_adapters()
        assert model_fingerprint(tiny_t5) == on
        tiny_t5.delete_adapter("one")
        assert model_fingerprint(tiny_t5) == plain

    def test_full_experts_differ(self, tiny_t5):
        pytest.importorskip("peft")
        from metro_fast.experts import compress, load_expert

        initial = copy.deepcopy(tiny_t5.state_dict())
        seen = {model_fingerprint(tiny_t5)}
        for seed in range(2):
            torch.manual_seed(seed)
            # One noise for all names of a tied weight.
            noise = {t.data_ptr(): 0.1 * torch.randn(t.shape) for t in initial.values()}
            trained = {name: t + noise[t.data_ptr()] for name, t in initial.items()}
            found = compress(trained, density=0.2, initial=initial, kind="full")
            seen.add(model_fingerprint(load_expert(tiny_t5, found, initial=initial)))
        assert len(seen) == 3
