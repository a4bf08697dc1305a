"""Pictures of experts, drawn as SVG text on pages of one file that load nothing."""

from metro_fast.experts.pictures.expert_page import expert_page
from metro_fast.experts.pictures.similarity_page import similarity_page
from metro_fast.experts.pictures.tuning_page import tuning_page

__all__ = ["expert_page", "similarity_page", "tuning_page"]
