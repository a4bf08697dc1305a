"""Upload of experts to the Hugging Face Hub."""

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_fast import _core
from metro_fast._atomic import write_atomically
from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, PICKLED_WEIGHTS, WEIGHTS
from metro_fast.experts.file.expert_file import ExpertFile
from metro_fast.experts.hub.card import CARD, as_place, model_card
from metro_fast.experts.hub.errors import Place, error_types, hub_errors
from metro_fast.experts.hub.fetch import at_revision
from metro_fast.experts.hub.name import HubName

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


def push_expert(
    expert: ExpertFile,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    card: bool | str = True,
    replace_card: bool = False,
) -> "CommitInfo":
    """Upload an expert: its weights, its adapter_config.json and a model card, in one commit.

    Args:
        expert: The expert.
        repo_id: `owner/name`, or `hf://owner/name[@revision][/folder]`. The repository is made if
            it does not exist, and so is the branch that `revision` names.
        private: Whether a new repository is private; the owner's settings decide by default. If it
            is True, nothing is uploaded to a repository that is public already.
        token: A token of the Hub, or whether to send the one of `hf auth login`, as is the default.
        revision: Branch to commit to, if the name has none; the main branch by default.
        commit_message: The first line of the commit.
        create_pr: Whether to open a pull request instead of committing.
        card: True writes `model_card(expert, repo_id)`, a text is the card itself, and False writes
            none.
        replace_card: Whether to replace a README.md that exists.

    Returns:
        huggingface_hub's `CommitInfo`: a string, the commit's URL, with `oid` and `pr_url`.

    Raises:
        MissingExtraError: If huggingface_hub is not installed.
        MetroFastError: If the name is not that of a repository; if the folder has a plain adapter,
            which PEFT would load instead, or a configuration while this expert has none; if the
            repository is public and `private` is True; or if the Hub rejects the card. Nothing is
            uploaded then.
        FileNotFoundError: If there is no such revision.
        PermissionError: If the token is missing or may not write.
        OSError: If the Hub cannot be reached, or the upload fails for another reason.

    Warns:
        UserWarning: If a README.md exists, which is kept unless `replace_card` is True.
    """
    name = at_revision(as_place(repo_id), revision)
    hub = require("huggingface_hub", "peft")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "expert"
        expert.save(folder)
        if card:
            text = model_card(expert, lasting_name(name)) if card is True else card
            write_atomically(folder / CARD, text)
        api = hub.HfApi(token=token, library_name="metro_fast", library_version=_core.__version__)
        with hub_errors(Place(name)):
            existing = _prepare(api, name, private, create_pr, expert.config is not None)
        if card and name.file(CARD) in existing and not replace_card:
            (folder / CARD).unlink()
            warnings.warn(
                f"{name} has a {CARD} already, which was kept: its figures may be those of another "
                "version (replace_card=True replaces it)",
                stacklevel=3,
            )
        files = sorted(path.name for path in folder.iterdir())
        with hub_errors(Place(name)):
            commit: CommitInfo = api.create_commit(
                repo_id=name.repo,
                operations=[
                    hub.CommitOperationAdd(
                        path_in_repo=name.file(file), path_or_fileobj=folder / file
                    )
                    for file in files
                ],
                commit_message=commit_message or "Upload an expert compressed by metro_fast",
                revision=name.revision,
                create_pr=create_pr,
            )
    return commit


def lasting_name(name: HubName) -> str:
    """The name that the card gives: a pull request will be merged into the main branch.

    Example:
        >>> lasting_name(HubName("o/n", "refs/pr/3")), lasting_name(HubName("o/n", "v1"))
        ('hf://o/n', 'hf://o/n@v1')
    """
    request = name.revision is not None and name.revision.startswith("refs/")
    return str(HubName(name.repo, None, name.folder) if request else name)


def _prepare(
    api: Any, name: HubName, private: bool | None, create_pr: bool, configured: bool
) -> set[str]:
    """Make the repository and the branch if they do not exist; return the files of the revision."""
    api.create_repo(repo_id=name.repo, private=private, exist_ok=True)
    if private and not api.repo_info(repo_id=name.repo).private:
        raise MetroFastError(
            f"{name.repo} is there already and public, and private=True does not change that: make "
            "it private in its settings, or choose another repository; nothing was uploaded"
        )
    try:
        existing = set(api.list_repo_files(repo_id=name.repo, revision=name.revision))
    except error_types().RevisionNotFoundError:
        if name.revision is None or create_pr or name.revision.startswith("refs/"):
            raise
        # A new branch begins with the files of the main one.
        existing = set(api.list_repo_files(repo_id=name.repo))
        _refuse_others(name, existing, configured)
        api.create_branch(repo_id=name.repo, branch=name.revision)
    _refuse_others(name, existing, configured)
    return existing


def _refuse_others(name: HubName, existing: set[str], configured: bool) -> None:
    """Refuse to put the expert beside files that would be read with it or instead of it."""
    if not configured and name.file(CONFIG) in existing:
        raise MetroFastError(
            f"{name} holds {CONFIG}, which would be read with this expert, which has "
            "none: push to another folder or repository; nothing was uploaded"
        )
    for file in (WEIGHTS, PICKLED_WEIGHTS):
        if name.file(file) in existing:
            raise MetroFastError(
                f"{name} holds {file}, a plain adapter, which PEFT would load instead and whose "
                f"{CONFIG} would be replaced: push to a folder beside it, hf://{name.repo}/FOLDER, "
                "or to another repository; nothing was uploaded"
            )
