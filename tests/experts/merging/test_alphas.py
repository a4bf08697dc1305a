"""Alphas that are tensors: every naming that `compress` takes, in every space of a merge.

What is expected comes from readers of each naming, written here from the tools' own rules: B A
times alpha / rank where a module has an alpha, and B A where it has none.
"""

from pathlib import Path

import numpy as np
import pytest

from metro_fast import MetroFastError
from metro_fast.experts import Expert, compress, merge, save_plain, similarity
from metro_fast.experts.adapters.roles import alphas_of, role_of

# Of a module: the names of A, B and its alpha, and the shapes of A and B at rank 4.
LINEAR, CONV = ((4, 12), (10, 4)), ((4, 6, 3, 3), (8, 4, 1, 1))
NAMINGS = {
    "kohya": ("lora_unet_{}.lora_down.weight", "lora_unet_{}.lora_up.weight", "lora_unet_{}.alpha"),
    "kohya, module named down": (
        "lora_unet_{}_down.lora_down.weight", "lora_unet_{}_down.lora_up.weight",
        "lora_unet_{}_down.alpha",
    ),
    "kohya, split projections": (
        "lora_unet_{}.lora_down.0.weight", "lora_unet_{}.lora_up.0.weight", "lora_unet_{}.alpha",
    ),
    "LyCORIS": ("lycoris_{}.lora_down.weight", "lycoris_{}.lora_up.weight", "lycoris_{}.alpha"),
    "ai-toolkit": ("transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight",
                   "transformer.{}.alpha"),
    "adapter's name": ("{}.lora_A.default.weight", "{}.lora_B.default.weight", "{}.alpha"),
    "loralib": ("{}.lora_A", "{}.lora_B", "{}.alpha"),
    "embedding": ("{}.lora_embedding_A", "{}.lora_embedding_B", "{}.alpha"),
    "diffusers, attention": ("unet.{}.processor.to_q_lora.down.weight",
                             "unet.{}.processor.to_q_lora.up.weight",
                             "unet.{}.processor.to_q_lora.down.weight.alpha"),
    "diffusers, module": ("unet.{}.to_q_lora.down.weight", "unet.{}.to_q_lora.up.weight",
                          "unet.{}.to_q.alpha"),
    "diffusers, lora": ("unet.{}.lora.down.weight", "unet.{}.lora.up.weight", "unet.{}.alpha"),
    "diffusers, text encoder": ("text_encoder.{}.lora_linear_layer.down.weight",
                                "text_encoder.{}.lora_linear_layer.up.weight",
                                "text_encoder.{}.alpha"),
    "network_alpha": ("{}.lora.down.weight", "{}.lora.up.weight", "{}.lora.network_alpha"),
    "lora_diffusion": ("unet:{}:down", "unet:{}:up", "unet:{}:alpha"),
}  # fmt: skip
MODULES = {"blocks_0": LINEAR, "blocks_1": CONV, "blocks_10": LINEAR}


def state(naming: str, seed: int, alphas: list, dtype=np.float32, shape=()) -> dict:
    """A LoRA of three modules; where an alpha is None the file has none for that module."""
    rng, found = np.random.default_rng(seed), {}
    for (module, shapes), alpha in zip(MODULES.items(), alphas, strict=True):
        a, b, scale = (name.format(module) for name in NAMINGS[naming])
        found[a], found[b] = (rng.standard_normal(s).astype(np.float32) for s in shapes)
        if alpha is not None:
            found[scale] = np.full(shape, alpha, dtype)
    return found


def expert(naming: str, seed: int, alphas: list, **options) -> Expert:
    tensors = state(naming, seed, alphas, **options)
    return compress(tensors, kind="lora", density=0.5, alpha="least_squares")


def read(naming: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The update that the tool's own reader adds to each module; an unknown name is an error."""
    found, left = {}, dict(tensors)
    for module in MODULES:
        a, b, scale = (name.format(module) for name in NAMINGS[naming])
        down, up = (left.pop(name).astype(np.float64) for name in (a, b))
        alpha = left.pop(scale, np.array(len(down)))
        assert up.shape[1] == len(down)
        product = up.reshape(len(up), -1) @ down.reshape(len(down), -1)
        found[module] = float(alpha.item()) / len(down) * product
    assert left == {}
    return found


def close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for module, update in expected.items():
        np.testing.assert_allclose(found[module], update, rtol=2e-5, atol=2e-5, err_msg=module)


def tensors_of(vector) -> dict[str, np.ndarray]:
    found = {name: residual.values for name, residual in vector.residuals.items()}
    return found | {name: tensor.numpy() for name, tensor in vector.dense.items()}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([4, 4, 4], [1, 1, 1]),
        ([4, 1, 2], [1, 8, -3]),
        ([None] * 3, [1, 2, 3]),
        ([2, 3, 16], [None] * 3),
        ([2, None, 16], [None, 8, 1]),
    ],
)
def test_updates_of_any_alphas_add_up(naming: str, one: list, two: list, tmp_path: Path):
    """With alphas 4 and 1 the second expert got 4 times its share."""
    from safetensors.numpy import load_file

    experts = [expert(naming, 1, one), expert(naming, 2, two)]
    parts = [read(naming, e.arrays()) for e in experts]
    vector = merge(experts, method="task_arithmetic", weights=[0.5, -2.0])
    expected = {module: 0.5 * parts[0][module] - 2 * parts[1][module] for module in MODULES}
    close(read(naming, tensors_of(vector)), expected)
    save_plain(vector, tmp_path / "merged.safetensors")
    close(read(naming, load_file(tmp_path / "merged.safetensors")), expected)
    mean = merge(experts, rank=8)
    close(read(naming, tensors_of(mean)), {m: (parts[0][m] + parts[1][m]) / 2 for m in MODULES})
    again = compress(vector, density=1.0, alpha="least_squares")
    assert list(read(naming, again.arrays())) == list(MODULES)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("alphas", [[4, 4, 4], [1, 8, -3], [None] * 3, [2, None, 16]])
@pytest.mark.parametrize("method", ["mean", "task_arithmetic", "ties"])
def test_one_expert_gets_its_weight_once(naming: str, alphas: list, method: str):
    one = expert(naming, 1, alphas)
    expected = {m: -0.3 * update for m, update in read(naming, one.arrays()).items()}
    for options in ({}, {"space": "factors"}, {"rank": 8}):
        if method == "ties" and options.get("rank"):
            options = {"rank": 10}
        vector = merge([one], method=method, weights=[-0.3], **options)
        close(read(naming, tensors_of(vector)), expected)


@pytest.mark.parametrize("naming", NAMINGS)
def test_factors_get_roots_of_scalings(naming: str):
    """A = sum sqrt(|w s|) A with the sign, B = sum sqrt(|w s|) B, as for PEFT's adapters."""
    given = [[4, 1, 2], [1, 8, -3], [None, 5, None]]
    experts = [expert(naming, i, alphas) for i, alphas in enumerate(given)]
    weights = [0.5, -2.0, 1.5]
    vector = merge(experts, method="task_arithmetic", weights=weights, space="factors")
    found = read(naming, tensors_of(vector))
    for i, module in enumerate(MODULES):
        a_sum = b_sum = 0.0
        for one, alphas, weight in zip(experts, given, weights, strict=True):
            a, b, _ = (name.format(module) for name in NAMINGS[naming])
            arrays = one.arrays()
            own = weight * (4 if alphas[i] is None else alphas[i]) / 4
            a_sum = a_sum + np.sign(own) * abs(own) ** 0.5 * arrays[a].reshape(4, -1)
            b_sum = b_sum + abs(own) ** 0.5 * arrays[b].reshape(-1, 4)
        np.testing.assert_allclose(found[module], b_sum @ a_sum, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("float16", ()), ("float64", (1,)), ("int64", ()), ("bfloat16", ()), ("float32", (1, 1))],
)
@pytest.mark.parametrize("space", [None, "factors"])
def test_an_alpha_may_have_any_dtype(dtype: str, shape: tuple, space):
    torch = pytest.importorskip("torch")
    parts = []
    for seed, alpha in ((1, 4), (2, 1)):
        tensors = state("kohya", seed, [alpha] * 3)
        for name in [n for n in tensors if n.endswith("alpha")]:
            tensors[name] = torch.full(shape, alpha, dtype=getattr(torch, dtype))
        parts.append(compress({n: torch.as_tensor(t) for n, t in tensors.items()}, density=0.5))
    vector = merge(parts, weights=[1.0, 0.0], space=space)
    expected = {m: u / 2 for m, u in read("kohya", parts[0].arrays()).items()}
    close(read("kohya", tensors_of(vector)), expected)


def test_modules_that_share_an_alpha_may_differ_in_rank():
    """kohya's split projections: one alpha for to_q, to_k and to_v of one layer."""
    rng = np.random.default_rng(0)

    def qkv(first: int, second: int, alpha: float) -> Expert:
        tensors = {"lora_unet_qkv.alpha": np.array(alpha, np.float32)}
        for i, rank in enumerate((first, second)):
            name = f"lora_unet_qkv.lora_{{}}.{i}.weight"
            tensors[name.format("down")] = rng.standard_normal((rank, 12)).astype(np.float32)
            tensors[name.format("up")] = rng.standard_normal((10, rank)).astype(np.float32)
        return compress(tensors, density=0.5)

    def updates(tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
        alpha = float(tensors["lora_unet_qkv.alpha"])
        pairs = [
            [tensors[f"lora_unet_qkv.lora_{x}.{i}.weight"] for x in ("down", "up")] for i in (0, 1)
        ]
        return [alpha / len(down) * up @ down for down, up in pairs]

    experts = [qkv(2, 4, 4.0), qkv(3, 2, 1.0)]
    parts = [updates(e.arrays()) for e in experts]
    found = updates(tensors_of(merge(experts, method="task_arithmetic", weights=[0.5, 3])))
    for i in range(2):
        expected = 0.5 * parts[0][i] + 3 * parts[1][i]
        np.testing.assert_allclose(found[i], expected, rtol=1e-5, atol=1e-5)


def test_two_kernels_in_one_module():
    """The update of a B with a kernel of its own is a sum over r for each pair of its entries."""

    def locon(seed: int, rank: int, alpha: float) -> Expert:
        rng = np.random.default_rng(seed)
        shapes = {"lora_down": (rank, 3, 3, 3), "lora_up": (5, rank, 2, 2)}
        tensors = {f"lycoris_c.{n}.weight": rng.standard_normal(s) for n, s in shapes.items()}
        tensors = {n: t.astype(np.float32) for n, t in tensors.items()}
        return compress(tensors | {"lycoris_c.alpha": np.array(alpha, np.float32)}, density=0.5)

    def update(tensors: dict[str, np.ndarray]) -> np.ndarray:
        down, up = (tensors[f"lycoris_c.lora_{x}.weight"] for x in ("down", "up"))
        scale = float(tensors["lycoris_c.alpha"]) / len(down)
        return scale * np.einsum("orxy,rizw->oxyizw", up.astype(np.float64), down)

    experts = [locon(1, 4, 8.0), locon(2, 2, 1.0)]
    expected = sum(w * update(e.arrays()) for w, e in zip((0.5, -3), experts, strict=True))
    found = merge(experts, method="task_arithmetic", weights=[0.5, -3])
    np.testing.assert_allclose(update(tensors_of(found)), expected, atol=1e-5)
    for options in ({"rank": 4}, {"rank": 4, "method": "ties"}):
        with pytest.raises(MetroFastError, match=r"B has the kernel \(2, 2\)"):
            merge(experts, **options)


def test_names_of_alphas():
    for factor in ("q.lora_A", "q.lora_down", "to_q_lora.down.weight", "q.lora_up.weight"):
        assert role_of(f"{factor}.alpha") is None
        assert role_of(factor) is not None or factor == "q.lora_down"
    assert role_of("unet:3:alpha", "lora") is None
    # PEFT writes the adapter's name, here "alpha", behind an embedding's factor.
    assert role_of("embed.lora_embedding_A.alpha") == "lora_A"
    assert alphas_of(["q.lora_A.weight", "q.lora_B.weight", "q.lora_alpha"]) == {
        "q": "q.lora_alpha"
    }


REFUSED = {
    "q.alpha is 0": {"q.alpha": np.float32(0)},
    "q.alpha is nan": {"q.alpha": np.float32(np.nan)},
    r"q.alpha has shape \(2,\)": {"q.alpha": np.ones(2, np.float32)},
    "k.alpha is named like the alpha of a LoRA": {"k.alpha": np.float32(1)},
    "q has two alphas": {"q.alpha": np.float32(1), "q.lora_alpha": np.float32(2)},
}


@pytest.mark.parametrize("message", REFUSED)
def test_an_alpha_that_readers_take_differently_is_refused(message: str):
    rng = np.random.default_rng(0)
    tensors = {f"q.lora_{x}.weight": rng.standard_normal((4, 4), np.float32) for x in ("A", "B")}
    tensors |= {name: np.asarray(value) for name, value in REFUSED[message].items()}
    one = compress(tensors, density=0.5)
    for call in (
        lambda: merge([one]),
        lambda: merge([one], space="factors"),
        lambda: merge([one], heads_from=0),
        lambda: similarity([one, one]),
    ):
        with pytest.raises(MetroFastError, match=message):
            call()


def test_heads_beside_alphas():
    one = expert("kohya", 1, [4, 1, 2])
    other = compress(
        state("kohya", 2, [1, 2, 3]) | {"classifier.weight": np.ones(3, np.float32)}, density=0.5
    )
    with pytest.raises(MetroFastError, match=r"expert 1 has dense tensors \(classifier.weight\)"):
        merge([one, other])
    for space in (None, "factors"):
        found = merge([one, other], heads_from=1, space=space)
        assert "classifier.weight" in found.dense
        assert len(found.dense) == 4
        assert list(merge([one, other], heads_from=0, space=space).dense) == [
            f"lora_unet_{module}.alpha" for module in MODULES
        ]


def test_a_part_of_an_update_is_not_a_head():
    """AdaLoRA's E is written between B and A."""
    rng = np.random.default_rng(0)
    tensors = {f"q.lora_{x}": rng.standard_normal((4, 4), np.float32) for x in ("A", "B", "E")}
    one = compress(tensors, density=0.5)
    for options in ({}, {"space": "factors"}, {"heads_from": 0}):
        with pytest.raises(MetroFastError, match=r"has q.lora_E"):
            merge([one], **options)


def test_similarity_counts_alphas():
    one, two = (expert("kohya", 1, alphas) for alphas in ([4, 4, 4], [4, 4, 36]))
    assert similarity([one, one]).matrix[0, 1] == pytest.approx(1)
    square = {n: float(np.square(t).sum()) for n, t in one.arrays().items() if "lora_" in n[-17:]}
    own = sum(v for n, v in square.items() if "blocks_10" in n)
    rest = sum(square.values()) - own
    expected = (3 * own + rest) / np.sqrt((own + rest) * (9 * own + rest))
    assert similarity([one, two]).matrix[0, 1] == pytest.approx(expected, rel=1e-5)


def test_the_command_writes_a_file(tmp_path: Path):
    from safetensors.numpy import load_file
    from typer.testing import CliRunner

    from metro_fast.cli.expert_merge import app

    experts = [expert("kohya", 1, [4] * 3), expert("kohya", 2, [1] * 3)]
    for i, one in enumerate(experts):
        one.save(tmp_path / str(i))
    folders, out = [str(tmp_path / str(i)) for i in range(2)], tmp_path / "merged.safetensors"
    found = CliRunner().invoke(app, [*folders, "--out", str(out)])
    assert found.exit_code == 0, (found.output, found.exception)
    parts = [read("kohya", one.arrays()) for one in experts]
    expected = {m: (parts[0][m] + parts[1][m]) / 2 for m in MODULES}
    close(read("kohya", load_file(out)), expected)
    before = out.read_bytes()
    found = CliRunner().invoke(app, [*folders, "--out", str(out)])
    assert "exists already" in str(found.exception)
    assert out.read_bytes() == before
    found = CliRunner().invoke(app, [*folders, "--out", str(tmp_path / "folder")])
    assert "choose a target that ends in .safetensors" in str(found.exception)
    assert not (tmp_path / "folder").exists()


def test_a_file_cannot_hold_a_configuration(tmp_path: Path):
    vector = merge([expert("ai-toolkit", 1, [None] * 3)])
    from dataclasses import replace

    with pytest.raises(MetroFastError, match="cannot hold the adapter_config"):
        save_plain(replace(vector, config=b'{"r": 4, "lora_alpha": 8}'), tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []
