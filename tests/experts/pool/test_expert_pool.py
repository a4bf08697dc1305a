"""ExpertPool: bit-equal to PEFT, consistent at every moment, and its refusals."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from metro_fast import FormatError, MetroFastError
from metro_fast.experts import Expert, ExpertPool, compress, decompress, load_expert

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

IDS = torch.arange(2, 14).reshape(2, 6)


def t5(dtype=torch.float32):
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=100,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )
    return transformers.T5ForConditionalGeneration(config).eval().to(dtype)


def llama(dtype=torch.float32):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return transformers.LlamaForCausalLM(config).eval().to(dtype)


MODELS = {"t5": t5, "llama": llama}
MODULES = {"t5": ["q", "v"], "llama": ["q_proj", "v_proj"]}
SCALED = {
    "t5": (["k", "v", "wo"], ["wo"]),
    "llama": (["k_proj", "v_proj", "down_proj"], ["down_proj"]),
}


def lora(model: str, **options):
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": MODULES[model]} | options)


def ia3(model: str):
    modules, feedforward = SCALED[model]
    return peft.IA3Config(target_modules=modules, feedforward_modules=feedforward)


def expert(model: str, config, seed: int, dtype=torch.float32, **options) -> Expert:
    """The expert of an adapter in which every weight has moved."""
    adapted = peft.get_peft_model(MODELS[model](dtype), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(parameter + 0.3 * noise.to(parameter.dtype))
    return compress(adapted, density=0.3, **options)


def logits(model):
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            return model(input_ids=IDS, labels=IDS).logits
        return model(input_ids=IDS).logits


def stock(model: str, expert: Expert, folder: Path, dtype=torch.float32):
    """Logits of PEFT itself on the decompressed folder."""
    if not folder.exists():
        decompress(expert, folder)
    base = MODELS[model](dtype)
    adapted = peft.PeftModel.from_pretrained(base, folder, autocast_adapter_dtype=False)
    return logits(adapted.eval())


def pool_of(model: str = "t5", count: int = 2, config=lora, dtype=torch.float32, **options):
    pool = ExpertPool(MODELS[model](dtype), **options)
    experts = [expert(model, config(model), seed, dtype) for seed in range(count)]
    for i, one in enumerate(experts):
        pool.add(f"e{i}", one)
    return pool, experts


@pytest.mark.parametrize("config", [lora, ia3])
@pytest.mark.parametrize("model", ["t5", "llama"])
def test_logits_are_bit_equal_to_peft(tmp_path, model, config):
    pool, experts = pool_of(model, 3, config)
    expected = [stock(model, one, tmp_path / str(i)) for i, one in enumerate(experts)]
    assert not torch.equal(expected[0], expected[1])
    for i in (0, 1, 2, 0, 2, 1):
        with pool.use(f"e{i}") as adapted:
            assert torch.equal(logits(adapted), expected[i])
        assert pool.resident == f"e{i}"
    loaded = load_expert(MODELS[model](), experts[1])
    assert torch.equal(logits(loaded), expected[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_base_in_16_bits(tmp_path, dtype):
    pool, experts = pool_of("llama", 2, dtype=dtype)
    for i in (1, 0, 1):
        with pool.use(f"e{i}") as adapted:
            found = logits(adapted)
        assert torch.equal(found, stock("llama", experts[i], tmp_path / str(i), dtype))


def test_heads_are_swapped_too(tmp_path):
    pool = ExpertPool(t5())
    config = lora("t5", modules_to_save=["final_layer_norm"])
    experts = [expert("t5", config, seed) for seed in range(2)]
    assert experts[0].dense
    for i, one in enumerate(experts):
        pool.add(f"e{i}", one)
    for i in (1, 0):
        with pool.use(f"e{i}") as adapted:
            assert torch.equal(logits(adapted), stock("t5", experts[i], tmp_path / str(i)))


def test_experts_of_other_scalings_and_lower_ranks(tmp_path):
    pool = ExpertPool(t5())
    name = "encoder.block.0.layer.0.SelfAttention.q"
    configs = {
        "first": lora("t5"),
        "alpha": lora("t5", lora_alpha=3),
        "rslora": lora("t5", use_rslora=True, alpha_pattern={"v": 2}),
        "rank": lora("t5", r=2, rank_pattern={name: 1}),
    }
    experts = {name: expert("t5", config, 5) for name, config in configs.items()}
    for name, one in experts.items():
        pool.add(name, one)
    layers = [m for m in pool.model.modules() if hasattr(m, "lora_A")]
    before = [dict(layer.scaling) for layer in layers]
    for name in ("rank", "alpha", "rslora", "rank", "first"):
        with pool.use(name) as adapted:
            found = logits(adapted)
        expected = stock("t5", experts[name], tmp_path / name)
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)
        if name == "first":
            assert torch.equal(found, expected)
    assert [dict(layer.scaling) for layer in layers] == before


def test_a_swap_makes_no_new_tensor_and_the_model_saves_correctly(tmp_path):
    pool, experts = pool_of()
    before = {name: p.data_ptr() for name, p in pool.model.named_parameters()}
    pool.swap("e1")
    assert {name: p.data_ptr() for name, p in pool.model.named_parameters()} == before
    pool.model.save_pretrained(tmp_path / "saved")
    saved = peft.PeftModel.from_pretrained(t5(), tmp_path / "saved").eval()
    assert torch.equal(logits(saved), stock("t5", experts[1], tmp_path / "plain"))


def test_autograd_notices_a_swap():
    pool, _ = pool_of()
    with pool.use("e0") as adapted:
        embeddings = adapted.get_input_embeddings()(IDS).detach().requires_grad_()
        output = adapted(inputs_embeds=embeddings, labels=IDS).logits.sum()
    pool.swap("e1")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.backward()


@pytest.mark.slow  # inductor compiles a T5
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_no_recompilation_over_twelve_swaps(backend):
    import torch._dynamo.utils as dynamo

    pool, _ = pool_of("llama", 3)
    torch._dynamo.reset()
    compiled = torch.compile(pool.model, backend=backend)

    def run(name: str):
        with pool.use(name), torch.no_grad():
            return compiled(input_ids=IDS, use_cache=False).logits

    first = {name: run(name) for name in pool.names}
    dynamo.counters.clear()
    for i in range(12):
        name = f"e{i % 3}"
        assert torch.equal(run(name), first[name])
    assert dynamo.counters["stats"]["unique_graphs"] == 0
    assert not torch.equal(first["e0"], first["e1"])
    torch._dynamo.reset()


class Toy(torch.nn.Module):
    """Two linear layers, with enough time between them for a swap."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)
        self.pause = 0.0

    def forward(self, x):
        hidden = self.first(x)
        if self.pause:
            time.sleep(self.pause)
        return self.second(hidden)


def toy_pool() -> ExpertPool:
    pool = ExpertPool(Toy())
    for seed in range(2):
        config = peft.LoraConfig(r=2, target_modules=["first", "second"], init_lora_weights=False)
        base = Toy()
        torch.manual_seed(seed + 1)
        pool.add(f"e{seed}", compress(peft.get_peft_model(base, config), density=0.5))
    return pool


def forwards(pool: ExpertPool, count: int, locked: bool) -> int:
    """The number of `count` forwards that match no expert, with a swap every 5 ms."""
    x = torch.ones(1, 16)
    whole = []
    for name in pool.names:
        with pool.use(name) as model, torch.no_grad():
            whole.append(model(x))
    assert not torch.equal(whole[0], whole[1])
    pool.model.base_model.model.pause = 0.001
    done = threading.Event()

    def swapper() -> None:
        i = 0
        while not done.is_set():
            i += 1
            time.sleep(0.005)
            if locked:
                pool.swap(f"e{i % 2}")
            else:
                packed = pool._entries[f"e{i % 2}"].packed
                pool._write(f"e{i % 2}", packed, pool._adapter)

    thread = threading.Thread(target=swapper)
    thread.start()
    torn = 0
    try:
        for i in range(count):
            with torch.no_grad():
                if locked:
                    with pool.use(f"e{i // 7 % 2}") as model:
                        output = model(x)
                    torn += not torch.equal(output, whole[i // 7 % 2])
                else:
                    output = pool.model(x)
                    torn += not any(torch.equal(output, one) for one in whole)
    finally:
        done.set()
        thread.join()
        pool.model.base_model.model.pause = 0.0
    return torn


def test_no_forward_sees_half_a_swap():
    pool = toy_pool()
    assert forwards(pool, 1000, locked=True) == 0
    # Without the lock some do: a forward takes a fifth of the time between two swaps.
    assert forwards(pool, 300, locked=False) > 0


def test_threads_of_one_expert_run_together_and_another_waits():
    pool = toy_pool()
    barrier = threading.Barrier(2, timeout=10)
    events = []

    def reader() -> None:
        with pool.use("e0"):
            barrier.wait()  # Both threads are inside.
            time.sleep(0.05)
            events.append("read")

    def other() -> None:
        with pool.use("e1"):
            events.append("other")

    readers = [threading.Thread(target=reader) for _ in range(2)]
    for thread in readers:
        thread.start()
    while pool._lock.users < 2:
        time.sleep(0.001)
    late = threading.Thread(target=other)
    late.start()
    for thread in (*readers, late):
        thread.join(10)
    assert events == ["read", "read", "other"]
    with pool.use("e1"), pool.use("e1"):
        with pytest.raises(MetroFastError, match=r"this thread uses 'e1' already"), pool.use("e0"):
            pass
        with pytest.raises(MetroFastError, match=r"inside pool\.use"):
            pool.remove("e0")
    assert pool._lock.users == 0


def merge(pool):
    pool.model.merge_adapter()


def disable(pool):
    pool.model.base_model.disable_adapter_layers()


def add_another(pool):
    pool.model.add_adapter("other", lora("t5"))
    pool.model.base_model.set_adapter(["default", "other"])
    pool.model.requires_grad_(False)


def move(pool):
    pool.model.to(torch.bfloat16)


def train(pool):
    next(iter(pool._adapter.arena.parameters.values())).requires_grad_()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (merge, "is merged into the base weights"),
        (disable, "adapters are disabled"),
        (add_another, r"active adapters are \['default', 'other'\]"),
        (move, "moved out of the pool's buffer"),
        (train, "require gradients"),
    ],
)
def test_a_model_that_may_not_be_changed_is_refused(change, message):
    pool, _ = pool_of()
    before = {n: p.clone() for n, p in pool.model.named_parameters()}
    change(pool)
    with pytest.raises(MetroFastError, match=message):
        pool.swap("e1")
    assert pool.resident == "e0"
    if change in (disable, train):
        after = dict(pool.model.named_parameters())
        assert all(torch.equal(p, after[n]) for n, p in before.items())


def test_models_that_cannot_hold_a_pool_are_refused():
    one = expert("t5", lora("t5"), 0)
    adapted = peft.get_peft_model(t5(), lora("t5"))
    with pytest.raises(MetroFastError, match=r"has the adapters \['default'\]"):
        ExpertPool(adapted).add("a", one)
    offloaded = t5()
    offloaded.encoder._hf_hook = type("Hook", (), {"offload": True})()
    with pytest.raises(MetroFastError, match="encoder is offloaded"):
        ExpertPool(offloaded)
    from metro_fast.experts.loading.checks import check_parameters

    meta = torch.nn.Parameter(torch.empty(2, device="meta"), requires_grad=False)
    with pytest.raises(MetroFastError, match="no data here"):
        check_parameters({"w": meta})

    class DTensor(torch.Tensor):
        pass

    sharded = type("P", (), {"data": torch.zeros(2).as_subclass(DTensor)})()
    with pytest.raises(MetroFastError, match="sharded over processes"):
        check_parameters({"w": sharded})
    with pytest.raises(MetroFastError, match="requires gradients"):
        check_parameters({"w": torch.nn.Parameter(torch.zeros(2))})


def test_experts_that_do_not_fit_are_refused():
    pool, experts = pool_of()
    before = logits(pool.model)
    cases = {
        "highest rank": expert("t5", lora("t5", r=8), 1),
        r"the expert lacks .*v\.lora_A": expert("t5", lora("t5", target_modules=["q"]), 1),
        "peft_type is IA3": expert("t5", ia3("t5"), 1),
        "only the expert has .*layer_norm": expert(
            "t5", lora("t5", modules_to_save=["final_layer_norm"]), 1
        ),
        "no adapter_config": compress({"w": np.eye(2, dtype=np.float32)}, kind="other", density=1),
    }
    for message, one in cases.items():
        with pytest.raises(MetroFastError, match=message):
            pool.add("new", one)
    with pytest.raises(MetroFastError, match="has an expert 'e0' already"):
        pool.add("e0", experts[0])
    with pytest.raises(MetroFastError, match="no expert 'e9', only 'e0', 'e1'"):
        pool.swap("e9")
    with pytest.raises(MetroFastError, match="'e0' is in the model"):
        pool.remove("e0")
    with pytest.raises(MetroFastError, match="max_bytes is 0"):
        ExpertPool(t5(), max_bytes=0)
    assert pool.names == ("e0", "e1")
    assert torch.equal(logits(pool.model), before)
    pool.remove("e1")
    assert pool.names == ("e0",)


def test_a_damaged_expert_leaves_the_old_one_in_the_model(tmp_path):
    pool, experts = pool_of()
    damaged = experts[1].file.copy()
    damaged[-300] ^= 1
    (tmp_path / "x.safetensors").write_bytes(damaged.tobytes())
    before = logits(pool.model)
    with pytest.raises(FormatError):
        pool.add("x", tmp_path / "x.safetensors")
    # The same for an expert whose bytes change in memory after the check.
    at = experts[1].block.size - 300
    experts[1].block[at] ^= 1
    with pytest.raises(FormatError):
        pool.swap("e1")
    assert pool.resident == "e0"
    assert torch.equal(logits(pool.model), before)
    experts[1].block[at] ^= 1
    pool.swap("e1")
    assert not torch.equal(logits(pool.model), before)


def test_the_least_recently_used_are_dropped_and_read_again(tmp_path):
    experts = [expert("t5", lora("t5"), seed) for seed in range(4)]
    for i, one in enumerate(experts):
        one.save(tmp_path / str(i))
    limit = 2 * experts[0].nbytes + 200
    pool = ExpertPool(t5(), max_bytes=limit)
    for i in range(4):
        pool.add(f"e{i}", tmp_path / str(i))
        assert pool.nbytes <= limit
    assert pool.names == ("e0", "e1", "e2", "e3")
    for i in (3, 1, 0, 2, 3):
        with pool.use(f"e{i}") as adapted:
            assert torch.equal(logits(adapted), stock("t5", experts[i], tmp_path / f"plain{i}"))
        assert pool.nbytes <= limit
    kept = ExpertPool(t5(), max_bytes=limit)
    kept.add("a", experts[0])
    kept.add("b", experts[1])
    with pytest.raises(MetroFastError, match="without a path, which cannot be dropped"):
        kept.add("c", experts[2])
    assert kept.names == ("a", "b")


def test_adding_reads_and_decodes_once(tmp_path, monkeypatch):
    from metro_fast import _core
    from metro_fast.experts import expert as expert_module
    from metro_fast.experts.pool import pool as pool_module

    calls = []

    def count(module, name):
        function = getattr(module, name)

        def counted(*arguments, **options):
            calls.append(name)
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, counted)

    for seed in range(2):
        expert("t5", lora("t5"), seed).save(tmp_path / str(seed))
    count(pool_module, "resolve_expert")
    count(expert_module, "read_bytes")
    count(_core, "expand")
    pool = ExpertPool(t5())
    for seed in range(2):
        pool.add(f"e{seed}", tmp_path / str(seed))
        assert sorted(calls) == ["expand", "read_bytes", "resolve_expert"]
        calls.clear()
    # The first is in the model after that one decode; every swap is one more.
    pool.swap("e0")
    assert calls == []
    pool.swap("e1")
    assert calls == ["expand"]


def test_a_damaged_first_expert_leaves_the_model_unchanged(tmp_path):
    damaged = expert("t5", lora("t5"), 0)
    damaged.save(tmp_path)
    data = damaged.file.copy()
    data[-300] ^= 1
    (tmp_path / "adapter_model.compeft.safetensors").write_bytes(data.tobytes())
    model = t5()
    before = {name: p.clone() for name, p in model.named_parameters()}
    pool = ExpertPool(model)
    with pytest.raises(FormatError):
        pool.add("e0", tmp_path)
    assert (pool.model, pool.resident, pool.names) == (model, None, ())
    after = dict(model.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(p, after[name]) for name, p in before.items())


def test_the_repr_is_one_short_line():
    pool = ExpertPool(t5())
    assert repr(pool) == "<ExpertPool of 0 experts; 0 bytes in memory; none is in the model>"
    one = expert("t5", lora("t5"), 0)
    pool.add("e0", one)
    expected = f"<ExpertPool of 1 expert; {one.nbytes:,} bytes in memory; 'e0' is in the model>"
    assert repr(pool) == expected


def test_a_base_of_few_bits(tmp_path):
    """A layer like bitsandbytes' Linear4bit: whole numbers and a scale, a float result."""

    class Linear4bit(torch.nn.Linear):
        def __init__(self, linear) -> None:
            super().__init__(linear.in_features, linear.out_features, bias=False)
            scale = linear.weight.abs().max() / 7
            codes = (linear.weight / scale).round().to(torch.int8)
            self.weight = torch.nn.Parameter(codes, requires_grad=False)
            self.scale = scale.detach()

        def forward(self, x):
            return torch.nn.functional.linear(x, self.weight.to(x.dtype) * self.scale)

    def quantized():
        model = llama()
        for module in model.modules():
            for name, child in list(module.named_children()):
                if type(child) is torch.nn.Linear and name != "lm_head":
                    setattr(module, name, Linear4bit(child))
        return model

    experts = [expert("llama", lora("llama"), seed) for seed in range(2)]
    pool = ExpertPool(quantized())
    for i, one in enumerate(experts):
        pool.add(f"e{i}", one)
        decompress(one, tmp_path / str(i))
    for i in (1, 0):
        folder = tmp_path / str(i)
        adapted = peft.PeftModel.from_pretrained(quantized(), folder, autocast_adapter_dtype=False)
        with pool.use(f"e{i}") as mine:
            assert torch.equal(logits(mine), logits(adapted.eval()))


def test_scaling_equals_that_of_peft():
    from metro_fast.experts.adapters.scaling import Scalings

    name = "encoder.block.0.layer.0.SelfAttention.q"
    for options in (
        {},
        {"use_rslora": True},
        {"rank_pattern": {name: 2}, "alpha_pattern": {"v": 3}},
        {"rank_pattern": {r"block\.1\..*q": 1}, "use_rslora": True},
    ):
        config = lora("t5", **options)
        adapted = peft.get_peft_model(t5(), config)
        fields = json.loads(json.dumps(config.to_dict(), default=list))
        layers = {n: m for n, m in adapted.named_modules() if hasattr(m, "lora_A")}
        assert len(layers) == 12
        for module, layer in layers.items():
            base = module.removeprefix("base_model.model.")
            assert Scalings(fields).scaling(base) == layer.scaling["default"], (options, module)
