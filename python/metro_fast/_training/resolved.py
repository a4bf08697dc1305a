"""The settings a run was started with, beside its output; a resumed run must have the same."""

import dataclasses
from pathlib import Path
from typing import Any

from metro_fast._atomic import write_atomically
from metro_fast._training.run import RESOLVED
from metro_fast.errors import FormatError, MetroFastError


def record_settings(output: Path, settings: Any, *, resume: bool, free: frozenset[str]) -> None:
    """Write `resolved_config.yaml`, or on resume compare with the one that is there.

    Args:
        output: The run's folder, which exists.
        settings: A dataclass of numbers, texts, paths and lists of them.
        resume: Whether a run is continued.
        free: Names that may differ between the two, since they do not change what is learned.

    Raises:
        MetroFastError: If a resumed run has other settings.
        FormatError: If the file that is there is damaged.
        OSError: If the folder cannot be written.
    """
    import yaml

    values = {name: _plain(value) for name, value in dataclasses.asdict(settings).items()}
    path = output / RESOLVED
    if resume and path.exists():
        try:
            before = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise FormatError(f"{path} is not YAML: {error}") from error
        if not isinstance(before, dict):
            raise FormatError(f"{path} holds a {type(before).__name__}, expected name: value")
        changed = [
            f"{name}: {before.get(name)!r} before, {values.get(name)!r} now"
            for name in sorted({*before, *values} - free)
            if before.get(name) != values.get(name)
        ]
        if changed:
            raise MetroFastError(
                f"{output} holds a run with other settings ({'; '.join(changed)}): resume with "
                "the same, or choose another output"
            )
    write_atomically(path, yaml.safe_dump(values, sort_keys=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())  # a run may be resumed from another folder
    if isinstance(value, list | tuple):
        return [_plain(element) for element in value]
    return value
