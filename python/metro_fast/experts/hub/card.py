"""The model card of an expert: a README.md with what the Hub indexes and what people need."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import EXPERT_FILE, WEIGHTS, parse_config
from metro_fast.experts.adapters.updates import ModuleFidelity
from metro_fast.experts.file.expert_file import ExpertFile
from metro_fast.experts.hub.card_tables import group_table, module_table, size_table
from metro_fast.experts.hub.name import SCHEME, HubName, hub_name, is_repo

CARD = "README.md"
PAPER = "2311.13171"

_KINDS = {
    "lora": ("A LoRA adapter", ["lora"]),
    "ia3": ("An IA3 adapter", ["ia3"]),
    "prompt": ("A soft prompt", ["prompt-tuning"]),
    "full": ("The residual of a full finetune", ["residual"]),
    "other": ("An adapter", []),
}

_MODELS = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
}
"""The class of transformers for each task_type of PEFT."""

_CITATION = f"""\
```bibtex
@article{{yadav2023compeft,
  title   = {{ComPEFT: Compression for Communicating Parameter Efficient Updates via Sparsification
             and Quantization}},
  author  = {{Yadav, Prateek and Choshen, Leshem and Raffel, Colin and Bansal, Mohit}},
  journal = {{arXiv preprint arXiv:{PAPER}}},
  year    = {{2023}}
}}
```"""


def model_card(
    expert: ExpertFile,
    repo_id: str | None = None,
    *,
    license: str | None = None,  # noqa: A002  (the Hub's own word)
    base_model: str | None = None,
    fidelity: Sequence[ModuleFidelity] | None = None,
    rows: int = 10,
) -> str:
    """Write a model card; every figure in it is taken from the expert.

    Args:
        expert: The expert; it is decoded once, for the densities.
        repo_id: The repository that it will be in, `owner/name` or
            `hf://owner/name[@revision][/folder]`; the code on the card loads it from there.
        license: The Hub's name of a license, for instance `"apache-2.0"`; none by default.
        base_model: The name of the base on the Hub, if the expert has no name or another one. By
            default the name in adapter_config.json, unless that is a local path.
        fidelity: The exact figures that `fidelity(source, expert)` returns; by default the
            estimates of `compress`, which an expert that was read from a file does not have.
        rows: The greatest number of groups, and of modules, to list.

    Returns:
        Markdown that begins with YAML between lines of `---`.

    Raises:
        FormatError: If a stream of the expert is damaged.
        MetroFastError: If repo_id is not the name of a repository, base_model is not that of a
            model, or rows is below 1.

    Example:
        >>> import numpy as np
        >>> from metro_fast.experts import compress
        >>> expert = compress({"q.ia3_l": np.float32([1.5, 1, 1, 1])}, density=0.25)
        >>> card = model_card(expert, base_model="org/base", license="mit")
        >>> card.splitlines()[1:4]
        ['library_name: metro_fast', 'base_model: org/base', 'base_model_relation: adapter']
    """
    place = None if repo_id is None else as_place(repo_id)
    base = base_model if base_model is not None else known_base(expert)
    if base is not None and not _is_model(base):
        raise MetroFastError(
            f"base_model is {quoted(base)}, expected a model of the Hub: owner/name"
        )
    if rows < 1:
        raise MetroFastError(f"rows is {rows}, expected at least 1")
    kind, _ = _KINDS[expert.manifest.kind]
    of = f" of [{base}](https://huggingface.co/{base})" if base else ""
    name = (place.folder or place.repo).rpartition("/")[2] if place else "Compressed expert"
    exact = fidelity is not None
    modules = expert.estimated_fidelity if fidelity is None else fidelity
    parts = [
        f"---\n{_yaml(_front_matter(expert, base, license))}---",
        f"# {name}",
        f"{kind}{of}, compressed by ComPEFT ([arXiv {PAPER}](https://arxiv.org/abs/{PAPER})) with "
        "metro_fast: each group of tensors keeps the signs of its entries of largest magnitude, "
        "and one scale.",
        size_table(expert),
        "## Groups",
        group_table(expert, rows),
        *(["## What compression left", module_table(modules, rows, exact)] if modules else []),
        "## Use",
        _use(expert, str(place) if place else f"{SCHEME}OWNER/NAME", base),
        "## Citation",
        _CITATION,
    ]
    return "\n\n".join(parts) + "\n"


def as_place(repo_id: str) -> HubName:
    """Read the name of a repository, given as `owner/name` or in the `hf://` form.

    Raises:
        MetroFastError: If it is neither.
    """
    return hub_name(repo_id) or HubName(repo_id)


def known_base(expert: ExpertFile) -> str | None:
    """The name of the base on the Hub, or None if the expert has none or has a local path."""
    base = expert.manifest.base.model
    return None if base is None or not _is_model(base) or Path(base).exists() else base


def _is_model(text: str) -> bool:
    """Whether it may be the name of a model; old names have no owner."""
    return is_repo(text if "/" in text else f"owner/{text}")


def _front_matter(expert: ExpertFile, base: str | None, terms: str | None) -> dict[str, Any]:
    kind = expert.manifest.kind
    peft = expert.config is not None
    fields: dict[str, Any] = {"library_name": "peft" if peft else "metro_fast"}
    if base:
        fields |= {
            "base_model": base,
            "base_model_relation": "finetune" if kind == "full" else "adapter",
        }
    tags = [*(["peft"] if peft else []), *_KINDS[kind][1], "metro_fast", "compeft", "ternary"]
    return fields | {"tags": tags} | ({"license": terms} if terms else {})


def _yaml(fields: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def _use(expert: ExpertFile, place: str, base: str | None) -> str:
    """Instructions for loading it, and what not to do."""
    quoted = json.dumps(place, ensure_ascii=False)
    if expert.config is None and expert.manifest.kind != "full":
        return (
            "```python\n"
            "from metro_fast.experts import Expert\n\n"
            f"tensors = Expert.from_pretrained({quoted}).state_dict()\n"
            "```"
        )
    config = parse_config(expert.config) if expert.config is not None else {}
    model = _MODELS.get(str(config.get("task_type")).rpartition(".")[2], "AutoModel")
    arguments, revision = f'"{base or "BASE_MODEL"}"', expert.manifest.base.revision
    if revision is not None and base == expert.manifest.base.model:
        arguments += f", revision={json.dumps(revision)}"
    load = (
        "```bash\npip install 'metro_fast[peft]'\n```\n\n"
        "```python\n"
        "from metro_fast.experts import load_expert\n"
        f"from transformers import {model}\n\n"
        f"model = {model}.from_pretrained({arguments})\n"
        f"model = load_expert(model, {quoted})\n"
        "```"
    )
    if expert.config is None:
        return f"{load}\n\nThe residual is added to the pristine base and never subtracted again."
    return (
        f"{load}\n\n"
        f"**Stock PEFT must not read `{EXPERT_FILE}`**: it holds packed bits under names that PEFT "
        f"does not know, and is therefore not called `{WEIGHTS}`. For PEFT and for servers, write "
        "the plain adapter first:\n\n"
        f"```bash\nmetro-fast expert decompress {shlex.quote(place)} plain\n```\n\n"
        "```python\n"
        "from peft import PeftModel\n"
        f"from transformers import {model}\n\n"
        f"model = {model}.from_pretrained({arguments})\n"
        'model = PeftModel.from_pretrained(model, "plain", autocast_adapter_dtype=False)\n'
        "```"
    )
