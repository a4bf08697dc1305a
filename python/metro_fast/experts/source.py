"""What `compress` and `fidelity` take: a folder, a PeftModel or a state dict."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metro_fast.experts.peft_folder import Adapter, read_folder, read_model


def read_source(source: Any) -> tuple[Adapter | None, Mapping[str, Any]]:
    """The adapter, if it is one, and its weights by name.

    Raises:
        TypeError: If it is none of the three.
    """
    if isinstance(source, str | Path):
        adapter = read_folder(Path(source))
    elif isinstance(source, Mapping):
        return None, source
    elif hasattr(source, "peft_config"):
        adapter = read_model(source, source.active_adapter)
    else:
        raise TypeError(
            f"source is a {type(source).__name__}, expected a path, a PeftModel or a state dict"
        )
    return adapter, adapter.state
