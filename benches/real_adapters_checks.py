"""Measurements behind the defaults: scopes, initial values and heads.

Part of `python benches/real_adapters.py`. A check gives its title, what it is, and rows.
"""

import warnings
from pathlib import Path

import numpy as np

from metro_fast.experts import Expert, compress, fidelity
from metro_fast.experts.adapters.state_file import read_safetensors, read_state
from metro_fast.experts.file.describe import entropy

Check = tuple[str, str, list[dict]]
IA3 = "t0_3b_ia3_tfew/t03b_ia3_finish.pt"
SD = "sd15_lora_analog/analog_svd_rank4.safetensors"
GPT2 = "gpt2_tigrinya_lora"
GAUSS = "gradience_tiny_lora"


def cosine(before: list[np.ndarray], after: list[np.ndarray]) -> float:
    """Statistics of all tensors as one vector."""
    x, y = (np.concatenate([t.reshape(-1) for t in side]).astype(np.float64)
            for side in (before, after))  # fmt: skip
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def residual_cosine(state: dict[str, np.ndarray], expert: Expert, names: list[str]) -> float:
    found = expert.arrays()
    starts = {t.name: float(t.initial == "one") for t in expert.manifest.tensors}
    return cosine(
        [state[n].astype(np.float64) - starts[n] for n in names],
        [found[n].astype(np.float64) - starts[n] for n in names],
    )


def scopes(folder: Path) -> Check:
    """One threshold for all, for each role, for each tensor."""
    rows = []
    for name, file, kind in (
        ("T0-3B IA3", IA3, "ia3"),
        ("GPT-2 LoRA", GPT2, None),
        ("SD 1.5 LoRA", SD, "lora"),
        ("Gaussian control", GAUSS, None),
    ):
        path = folder / file
        weights = path / "adapter_model.safetensors" if path.is_dir() else path
        state = {key: tensor.float32() for key, tensor in read_state(weights).items()}
        for density in (0.05, 0.2):
            for scope in ("global", "role", "tensor"):
                expert = compress(path, kind=kind, density=density, scope=scope)
                modules = fidelity(path, expert)
                trits = expert.trits()
                ups = [n for n in state if ":up" in n or "lora_B" in n] or list(state)
                kept = sum(np.count_nonzero(trits[n]) for n in ups) / sum(
                    state[n].size for n in ups
                )
                cosines = sorted(row.cosine for row in modules)
                rows.append({
                    "adapter": name,
                    "k": f"{density:.0%}",
                    "scope": scope,
                    "B (or all) kept": f"{kept:.2%}",
                    "cos of B (or all)": f"{residual_cosine(state, expert, ups):.3f}",
                    "cos dW min": f"{cosines[0]:.3f}",
                    "median": f"{cosines[len(cosines) // 2]:.3f}",
                    "erased": f"{sum(row.erased for row in modules)} of {len(modules)}",
                    "bytes": f"{expert.nbytes:,}",
                })  # fmt: skip
    return (
        "Scopes",
        "What is ranked together: the whole adapter (the published code), each role, each tensor. "
        "A module is erased where the cosine of its update is below .15.",
        rows,
    )


def erasure(folder: Path) -> Check:
    """B next to an A in its initial range: a common threshold is that of the larger one."""
    del folder
    rng = np.random.default_rng(0)
    a = rng.uniform(-1, 1, (64, 4096)).astype(np.float32) / np.float32(np.sqrt(4096))
    noise = rng.standard_normal((4096, 64)).astype(np.float32)
    rows = []
    for std in (1e-4, 1e-3, 3e-3, 1e-2):
        state = {"q.lora_A.weight": a, "q.lora_B.weight": noise * np.float32(std)}
        for density in (0.05, 0.2, 0.5):
            for scope in ("global", "role"):
                expert = compress(state, density=density, scope=scope)
                [row] = fidelity(state, expert)
                trits = expert.trits()
                kept = [np.count_nonzero(t) / t.size for _, t in sorted(trits.items())]
                rows.append({
                    "std of B": f"{std:g}",
                    "k": f"{density:.0%}",
                    "scope": scope,
                    "A kept": f"{kept[0]:.2%}",
                    "B kept": f"{kept[1]:.2%}",
                    "cos(dW, dW')": f"{row.cosine:.3f}",
                    "|dW'| / |dW|": f"{row.norm_ratio:.3g}",
                })  # fmt: skip
    return (
        "How one threshold erases B",
        "Made up, not a trained adapter: rank 64, width 4096, A uniform in PEFT's initial range "
        "(standard deviation .009), B normal; alpha 1.",
        rows,
    )


def initial_values(folder: Path) -> Check:
    """IA3 vectors start at 1: the difference is compressed."""
    path = folder / IA3
    state = {key: tensor.float32() for key, tensor in read_state(path).items()}
    rows = []
    for density in (0.05, 0.1, 0.2, 0.3, 0.5):
        raw = compress(path, kind="other", density=density)
        minus = compress(path, kind="ia3", density=density)
        after = [minus.arrays()[n] - np.float32(1) for n in state]
        kept = cosine([v - np.float32(1) for v in state.values()], after)
        lost = cosine(list(state.values()), [raw.arrays()[n] for n in state])
        rows.append({
            "k": f"{density:.0%}",
            "cos of the values as they are": f"{lost:.3f}",
            "cos of the values minus 1": f"{kept:.3f}",
        })  # fmt: skip
    return ("Initial values", "T0-3B's IA3 vectors, all as one vector.", rows)


def classifier(folder: Path) -> Check:
    """The head of a sequence classifier when the published code takes it into the vector."""
    del folder
    import peft
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(num_labels=2)
    model = peft.get_peft_model(
        transformers.BertForSequenceClassification(config), peft.IA3Config(task_type="SEQ_CLS")
    )
    state = {
        name: tensor.detach().numpy()
        for name, tensor in peft.get_peft_model_state_dict(
            model, save_embedding_layers=False
        ).items()
    }
    rng = np.random.default_rng(0)
    for name, array in state.items():
        if "ia3_l" in name:
            state[name] = (1 + 0.05 * rng.standard_normal(array.shape)).astype(np.float32)
    head = [name for name in state if "classifier" in name]
    vectors = [v - 1 for n, v in state.items() if n not in head]
    std = np.concatenate([v.reshape(-1) for v in vectors]).std()
    both = np.concatenate([(v - 1).reshape(-1) for v in state.values()])
    rows = []
    for density in (0.05, 0.2, 0.5):
        joined = compress(
            {n: v - np.float32(1) for n, v in state.items()},
            kind="other", scope="global", density=density,
        )  # fmt: skip
        trits = joined.trits()
        kept = np.concatenate([trits[name].reshape(-1) for name in head])
        apart = compress(state, density=density)
        rows.append({
            "k": f"{density:.0%}",
            "head entries": kept.size,
            "kept, joined": int(np.count_nonzero(kept)),
            "of one sign": max(int((kept > 0).sum()), int((kept < 0).sum())),
            "scale, joined": f"{both.std(ddof=1):.3f}",
            "scale, head apart": f"{float(apart.scales[0]):.3f}",
            "std of IA3 - 1": f"{std:.3f}",
            "head as it was": all(np.array_equal(apart.arrays()[n], state[n]) for n in head),
        })  # fmt: skip
    return (
        "Heads of classifiers",
        "Random BERT-base with IA3 (vectors 1 + N(0, .05)) and a new head of 2 labels: all minus 1 "
        "as one vector, as the published code has it, and as here, where the head stays dense.",
        rows,
    )


def estimates(folder: Path) -> Check:
    """The distance of the estimate without products from the exact cosine."""
    rows = []
    for name, file, kind in (
        ("GPT-2 LoRA", GPT2, None),
        ("SD 1.5 LoRA", SD, "lora"),
        ("Gaussian control", GAUSS, None),
    ):
        errors, erased, named = [], 0, 0
        for density in (0.02, 0.05, 0.1, 0.2):
            for scope in ("global", "role", "tensor"):
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    expert = compress(folder / file, kind=kind, density=density, scope=scope)
                exact = fidelity(folder / file, expert)
                found = {row.module: row.cosine for row in expert.estimated_fidelity}
                errors += [found[row.module] - row.cosine for row in exact]
                erased += sum(row.erased for row in exact)
                named += sum(count_named(str(warning.message)) for warning in caught)
        rows.append({
            "adapter": name,
            "estimates": len(errors),
            "lowest error": f"{min(errors):+.3f}",
            "highest error": f"{max(errors):+.3f}",
            "erased": erased,
            "named by the warning": named,
        })  # fmt: skip
    return (
        "Estimated cosines",
        "Estimate minus exact cosine over all modules, 2, 5, 10 and 20 %, all scopes; modules that "
        "are erased, and how many of them the warning counts.",
        rows,
    )


def count_named(message: str) -> int:
    """Modules in a warning: names between commas, and "N more"."""
    names = message.removeprefix("the update of ").partition(" is erased")[0]
    listed, _, more = names.partition(" and ")
    return listed.count(", ") + 1 + int(more.removesuffix(" more") or 0)


def larger(folder: Path) -> Check:
    """Sizes above those of the real adapters."""
    del folder
    rng = np.random.default_rng(0)
    rows = []
    for modules in (8, 32, 96):
        state = {
            f"base_model.model.layers.{i}.q_proj.lora_{x}.weight": rng.standard_t(
                6, shape
            ).astype(np.float32) * np.float32(2e-3)
            for i in range(modules)
            for x, shape in (("A", (64, 4096)), ("B", (4096, 64)))
        }  # fmt: skip
        for density in (0.05, 0.2):
            default, size = (
                compress(state, density=density, profile=profile) for profile in ("default", "size")
            )
            bound = entropy(density) * default.manifest.parameters / 8 + 2000
            rows.append({
                "parameters": f"{default.manifest.parameters:,}",
                "k": f"{density:.0%}",
                "bytes": f"{default.nbytes:,}",
                "S": default.steps,
                "over Shannon + 2 kB": f"{default.nbytes / bound:.4f}",
                "bytes, size profile": f"{size.nbytes:,}",
                "S of it": size.steps,
                "over Shannon + 2 kB, size profile": f"{size.nbytes / bound:.4f}",
            })  # fmt: skip
    return (
        "Larger adapters",
        "Made up: rank 64, width 4096, Student's t with 6 degrees of freedom. The goals are 1.04 "
        "above 4 million parameters, and 1.02 in the size profile at 50 million.",
        rows,
    )


def structure(folder: Path) -> Check:
    """Tails, ties, and the entries that make up the norm."""
    vectors = {
        "T0-3B IA3 - 1": [t.float32() - 1 for t in read_state(folder / IA3).values()],
        **{
            f"SD 1.5 LoRA, {part}": [
                t.float32() for n, t in read_safetensors(folder / SD).items() if n.endswith(part)
            ]
            for part in (":down", ":up")
        },
        **{
            f"{name}, {part}": [
                t.float32()
                for n, t in read_safetensors(folder / file / "adapter_model.safetensors").items()
                if part in n
            ]
            for name, file in (("GPT-2 LoRA", GPT2), ("Gaussian control", GAUSS))
            for part in ("lora_A", "lora_B")
        },
        **{
            f"prompt {task}": [t.float32() for t in read_state(
                folder / f"t5v11_base_prompts/{task}.npy").values()]
            for task in ("sst2", "rte")
        },
    }  # fmt: skip
    rows = []
    for name, tensors in vectors.items():
        flat = np.concatenate([t.reshape(-1) for t in tensors]).astype(np.float64)
        centered = flat - flat.mean()
        squares = np.sort(flat**2)[::-1]
        norms = [np.sqrt(squares[: int(flat.size * k)].sum() / squares.sum()) for k in
                 (0.05, 0.1, 0.2)]  # fmt: skip
        _, counts = np.unique(np.abs(flat), return_counts=True)
        rows.append({
            "what": name,
            "entries": f"{flat.size:,}",
            "std": f"{flat.std(ddof=1):.3g}",
            "kurtosis": f"{(centered**4).mean() / (centered**2).mean() ** 2:.1f}",
            "magnitudes that repeat": f"{flat.size - counts.size:,}",
            "norm in the top 5/10/20 %": "/".join(f"{x:.2f}" for x in norms),
        })  # fmt: skip
    sst2, rte = (vectors[f"prompt {task}"][0].reshape(-1) for task in ("sst2", "rte"))
    alike = cosine([sst2], [rte])
    return (
        "Shape of the values",
        "A normal distribution has kurtosis 3, a uniform one 1.8. The cosine of the two prompts "
        f"is {alike:.3f}.",
        rows,
    )


CHECKS = (scopes, erasure, initial_values, classifier, structure, estimates, larger)
