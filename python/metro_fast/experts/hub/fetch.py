"""Experts fetched from the Hugging Face Hub into its cache: two files and nothing else."""

from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast._shown import quoted, shown
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, EXPERT_FILE
from metro_fast.experts.hub.errors import Place, error_types, hub_errors
from metro_fast.experts.hub.name import SCHEME, HubName, hub_name, is_repo


def resolve_expert(
    path: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """The path of an expert on this machine, after it was fetched if it is on the Hub.

    Every function that takes the path of an expert calls this one. A name that begins with `hf://`
    is looked up on the Hub: the weights file and adapter_config.json, both of one commit, are
    fetched into the cache of huggingface_hub unless they are there. No other file is fetched, so
    never a pickle. Any other path is returned unchanged, and huggingface_hub is not needed.

    Args:
        path: A folder, a weights file, or `hf://owner/name[@revision][/folder]`.
        revision: Branch, tag or commit, if the name has none; the main branch by default.
        token: A token of the Hub, or whether to send the one of `hf auth login`, as is the default.
        cache_dir: Where downloads are kept; by default where huggingface_hub keeps them.
        local_files_only: Whether to use the cache alone and not to ask the Hub.

    Returns:
        The path itself, or the folder in the cache.

    Raises:
        MissingExtraError: If huggingface_hub is not installed.
        MetroFastError: If the name is not that of a repository, folder or revision.
        FileNotFoundError: If the Hub has no such repository, revision or expert, or the cache
            does not have it and the Hub may not be asked or cannot be reached.
        PermissionError: If the repository is gated or disabled, or the token is refused.
        OSError: If the transfer fails for another reason.

    Example:
        >>> resolve_expert("experts/math").as_posix()
        'experts/math'
    """
    name = hub_name(path)
    if name is None:
        return Path(path)
    name = at_revision(name, revision)
    hub = require("huggingface_hub", "peft")
    options: dict[str, Any] = {
        "repo_id": name.repo,
        "token": token,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
    }
    with hub_errors(Place(name, EXPERT_FILE, local_files_only)):
        weights = hub.hf_hub_download(
            filename=name.file(EXPERT_FILE), revision=name.revision, **options
        )
    folder = Path(weights).parent
    # The same commit, whatever was pushed meanwhile: .../snapshots/COMMIT/FOLDER/FILE.
    commit = Path(weights).parents[len(Path(name.file(EXPERT_FILE)).parts) - 1].name
    errors, config = error_types(), name.file(CONFIG)
    with hub_errors(Place(name, CONFIG, local_files_only)):
        try:
            hub.hf_hub_download(filename=config, revision=commit, **options)
        except errors.LocalEntryNotFoundError:
            found = hub.try_to_load_from_cache(
                name.repo, config, cache_dir=cache_dir, revision=commit
            )
            if found is not hub._CACHED_NO_EXIST:
                raise
        except errors.RemoteEntryNotFoundError:
            pass  # the expert did not come from PEFT
    return folder


def find_pretrained(
    path_or_repo: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Resolve a path as `resolve_expert` does, but take `owner/name` for a repository too.

    A local path of that name is preferred.

    Raises:
        FileNotFoundError: If it is neither a local path nor the name of a repository.
        MetroFastError: If a revision is given and the path is a local one.
    """
    if hub_name(path_or_repo) is None:
        text = str(path_or_repo)
        if Path(path_or_repo).exists():
            if revision is not None:
                raise MetroFastError(
                    f"revision is {quoted(revision)}, but {text} is a local path: leave it out, or "
                    f"write {SCHEME}{text} for the repository of that name"
                )
            return Path(path_or_repo)
        if not is_repo(text):
            raise FileNotFoundError(
                f"{text} does not exist, and it cannot be a repository of the Hub either, which "
                "is named owner/name"
            )
        path_or_repo = SCHEME + text
    return resolve_expert(
        path_or_repo,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )


def missing(path: Path) -> FileNotFoundError:
    """The error for a path that does not exist; it says how a repository is named."""
    text = path.as_posix()
    hint = f"; a repository of the Hub is named {SCHEME}{text}" if is_repo(text) else ""
    return FileNotFoundError(
        f"there is no {shown(str(path))}: expected the folder or the file of an expert{hint}"
    )


def at_revision(name: HubName, revision: str | None) -> HubName:
    """The name with a revision that was given separately.

    Raises:
        MetroFastError: If the name has a different one.
    """
    if revision is None or revision == name.revision:
        return name
    if name.revision is not None:
        raise MetroFastError(
            f"{name} has a revision, and revision is {quoted(revision)}: give one of the two"
        )
    return HubName(name.repo, revision, name.folder)
