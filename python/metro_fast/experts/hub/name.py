"""Names of experts on the Hugging Face Hub: `hf://owner/name[@revision][/folder]`."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import EXPERT_FILE

SCHEME = "hf://"
_FORM = "expected hf://owner/name, hf://owner/name@revision or hf://owner/name@revision/folder"
_KINDS = ("datasets", "spaces", "buckets", "kernels")
_WORD = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
_PULL_REQUEST = re.compile(r"(refs/pr/\d+)(?:/(.*))?", re.DOTALL)
_NOT_IN_REVISIONS = re.compile(r"[\s~^:?*\[\\]|\.\.|//|@\{|^[/.-]|[/.]$")


@dataclass(frozen=True)
class HubName:
    """The position of an expert on the Hub.

    Attributes:
        repo: `owner/name`, a model repository.
        revision: Branch, tag, commit or `refs/pr/N`; None is the main branch.
        folder: Folder in the repository, with `/` between its parts; empty is the top.

    Example:
        >>> print(HubName("owner/name", "v1", "math"))
        hf://owner/name@v1/math
    """

    repo: str
    revision: str | None = None
    folder: str = ""

    def __post_init__(self) -> None:
        """Refuse names that would lead out of the repository or of its folder in the cache.

        Raises:
            MetroFastError: If a part is not one that the Hub allows.
        """
        if not is_repo(self.repo):
            raise MetroFastError(f"{quoted(self.repo)} is not a repository of the Hub: {_FORM}")
        if self.revision is not None and (
            not self.revision.isprintable()
            or not self.revision
            or _NOT_IN_REVISIONS.search(self.revision)
        ):
            raise MetroFastError(
                f"{quoted(self.revision)} is not a revision: expected a branch, a tag or a commit"
            )
        for part in self.folder.split("/") if self.folder else []:
            if part in ("", ".", "..") or not part.isprintable() or re.search(r"[\\:]", part):
                raise MetroFastError(
                    f"{quoted(self.folder)} is not a folder of a repository: {quoted(part)} is not "
                    "allowed"
                )

    def __str__(self) -> str:
        """The name in the form that `hub_name` reads."""
        revision = self.revision or ""
        if not _PULL_REQUEST.fullmatch(revision):
            revision = quote(revision, safe="")
        at = f"@{revision}" if revision else ""
        return f"{SCHEME}{self.repo}{at}{'/' if self.folder else ''}{self.folder}"

    def file(self, name: str) -> str:
        """Path of a file of the expert in the repository."""
        return f"{self.folder}/{name}" if self.folder else name


def is_repo(text: str) -> bool:
    """Whether a text could be the name of a repository on the Hub, `owner/name`.

    Example:
        >>> is_repo("google-t5/t5-base"), is_repo("/models/t5"), is_repo("../t5")
        (True, False, False)
    """
    owner, _, name = text.partition("/")
    return (
        _WORD.fullmatch(owner) is not None
        and _WORD.fullmatch(name) is not None
        and not any(bad in text for bad in ("--", ".."))
        and not name.endswith(".git")
        and owner not in _KINDS
    )


def hub_name(path: str | Path) -> HubName | None:
    """Read a name of the Hub; None if the path is one of this machine.

    A `Path` has one slash after `hf:`, since pathlib drops the other. A `/` within a revision is
    written `%2F`, except in `refs/pr/N`. The name may end with that of the weights file.

    Args:
        path: The path of an expert, as a user gave it.

    Raises:
        MetroFastError: If it begins with `hf://` and is not the name of a model repository.

    Example:
        >>> hub_name("hf://owner/name@v1/math")
        HubName(repo='owner/name', revision='v1', folder='math')
        >>> hub_name("owner/name") is None
        True
    """
    text = path if isinstance(path, str) else Path(path).as_posix()
    if not isinstance(path, str) and text.startswith("hf:/"):
        text = SCHEME + text.removeprefix("hf:/")
    if not text.startswith(SCHEME):
        return None
    body = text.removeprefix(SCHEME).removeprefix("models/")
    kind = body.partition("/")[0]
    if kind in _KINDS:
        raise MetroFastError(
            f"{quoted(text)} is a name of {kind}, expected a model repository: {_FORM}"
        )
    found = re.fullmatch(r"([^/@]*/[^/@]*)(@?)(.*)", body, re.DOTALL)
    if found is None:
        raise MetroFastError(f"{quoted(text)} is not the name of an expert: {_FORM}")
    repo, at, rest = found.groups()
    revision: str | None = None
    if at:
        request = _PULL_REQUEST.fullmatch(rest)
        first, _, folder = rest.partition("/")
        revision, folder = (request[1], request[2] or "") if request else (unquote(first), folder)
    elif rest and not rest.startswith("/"):
        raise MetroFastError(f"{quoted(text)} is not the name of an expert: {_FORM}")
    else:
        folder = rest.removeprefix("/")
    folder = folder.removesuffix("/")
    if folder == EXPERT_FILE or folder.endswith(f"/{EXPERT_FILE}"):
        folder = folder.removesuffix(EXPERT_FILE).removesuffix("/")
    return HubName(repo, revision, folder)


def expert_name(path: str | Path) -> str:
    """The name of an expert according to its path: that of its folder or repository.

    Example:
        >>> (
        ...     expert_name("experts/math"),
        ...     expert_name("hf://owner/math@v1"),
        ...     expert_name("hf://o/n/a"),
        ... )
        ('math', 'math', 'a')
    """
    name = hub_name(path)
    if name is None:
        return Path(path).name
    return (name.folder or name.repo).rpartition("/")[2]
