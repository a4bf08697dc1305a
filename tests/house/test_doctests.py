"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import pytest

import metro_fast

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(metro_fast.__path__, "metro_fast.")
    if not info.name.endswith(("._core", ".__main__"))
)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # examples may write files
    try:
        module = importlib.import_module(name)
    except metro_fast.MissingExtraError as error:  # lm-eval is not among the developers' packages
        pytest.skip(str(error))
    outcome = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert outcome.failed == 0
