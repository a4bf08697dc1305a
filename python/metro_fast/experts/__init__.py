"""Compressed experts: ComPEFT (arXiv 2311.13171) in files with 8 to 50 times fewer bytes.

Importing this package needs numpy alone; torch and peft are imported when they are first used.
"""

from metro_fast.experts.adapters.updates import ModuleFidelity
from metro_fast.experts.compression.compress import compress
from metro_fast.experts.compression.fidelity import fidelity
from metro_fast.experts.compression.streamed import compress_checkpoint
from metro_fast.experts.compression.task_vector import TaskVector, task_vector
from metro_fast.experts.expert import EXPERT_FILE, Expert
from metro_fast.experts.loading.add_to_base import add_to_base
from metro_fast.experts.loading.load import load_expert
from metro_fast.experts.loading.load_several import load_experts
from metro_fast.experts.merging.merge import merge
from metro_fast.experts.merging.similarity import Similarity, similarity
from metro_fast.experts.plain.decompress import decompress
from metro_fast.experts.plain.export import export
from metro_fast.experts.plain.plain import save_plain
from metro_fast.experts.pool import ExpertPool
from metro_fast.experts.search.compose import Composition, compose_fewshot
from metro_fast.experts.search.tune import tune_compression
from metro_fast.experts.search.tuning_table import Tuning

__all__ = [
    "EXPERT_FILE",
    "Composition",
    "Expert",
    "ExpertPool",
    "ModuleFidelity",
    "Similarity",
    "TaskVector",
    "Tuning",
    "add_to_base",
    "compose_fewshot",
    "compress",
    "compress_checkpoint",
    "decompress",
    "export",
    "fidelity",
    "load_expert",
    "load_experts",
    "merge",
    "save_plain",
    "similarity",
    "task_vector",
    "tune_compression",
]
