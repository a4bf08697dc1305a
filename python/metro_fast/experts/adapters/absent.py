"""The error for a path at which there is not what was expected."""

from pathlib import Path

from metro_fast._shown import shown

_LISTED = 4


def absent(path: Path, wanted: str, expected: str) -> FileNotFoundError:
    """Say what a path lacks, and what is there instead.

    Args:
        path: The path.
        wanted: What should be there: "adapter".
        expected: The files or folders that would be one.

    Returns:
        The error, which is not raised.

    Example:
        >>> str(absent(Path("nowhere"), "expert", "a folder with one"))
        'there is no nowhere: expected a folder with one'
    """
    name = shown(str(path))
    if not path.exists():
        return FileNotFoundError(f"there is no {name}: expected {expected}")
    return FileNotFoundError(f"{name} holds no {wanted}: expected {expected}; {_contents(path)}")


def _contents(folder: Path) -> str:
    """The first names in a folder, folders with a slash at the end."""
    names = sorted(f"{each.name}/" if each.is_dir() else each.name for each in folder.iterdir())
    if not names:
        return "the folder is empty"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"it holds {', '.join(shown(name, 60) for name in names[:_LISTED])}{more}"
