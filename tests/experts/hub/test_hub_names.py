"""Names of experts on the Hub; those that lead elsewhere are refused in test_hub.py."""

from pathlib import Path

import pytest

from metro_fast.experts import EXPERT_FILE
from metro_fast.experts.hub.name import HubName, hub_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf://o/n", HubName("o/n")),
        ("hf://models/o/n", HubName("o/n")),
        ("hf://o/n/", HubName("o/n")),
        ("hf://o/n@v1", HubName("o/n", "v1")),
        ("hf://o/n/a/b", HubName("o/n", None, "a/b")),
        ("hf://o/n@v1.0/a@b", HubName("o/n", "v1.0", "a@b")),
        ("hf://o/n@refs/pr/3", HubName("o/n", "refs/pr/3")),
        ("hf://o/n@refs/pr/3/a", HubName("o/n", "refs/pr/3", "a")),
        ("hf://o/n@dev%2Fx/a", HubName("o/n", "dev/x", "a")),
        (f"hf://o/n/a/{EXPERT_FILE}", HubName("o/n", None, "a")),
        (f"hf://o/n@v1/{EXPERT_FILE}", HubName("o/n", "v1")),
        (Path("hf://o/n@v1/a"), HubName("o/n", "v1", "a")),
    ],
)
def test_names(text: str | Path, name: HubName):
    assert hub_name(text) == name
    assert hub_name(str(name)) == name


def test_names_are_read_as_huggingface_hub_reads_them():
    huggingface_hub = pytest.importorskip("huggingface_hub")
    parse = getattr(huggingface_hub.utils, "parse_hf_uri", None)
    if parse is None:
        pytest.skip("this huggingface_hub has no parser of hf:// names")
    for text in ("hf://o/n", "hf://o/n@v1/a", "hf://o/n@refs/pr/3/a", "hf://o/n@dev%2Fx/a/b"):
        ours, theirs = hub_name(text), parse(text)
        assert ours is not None
        assert (ours.repo, ours.revision, ours.folder) == (
            theirs.id, theirs.revision, theirs.path_in_repo,
        )  # fmt: skip


def test_other_paths_are_not_names_of_the_hub():
    for path in ("owner/name", "hf:", "hf:/owner/name", Path("owner/name"), Path("/hf:/a/b"), ""):
        assert hub_name(path) is None
    with pytest.raises(TypeError):
        hub_name(3)
