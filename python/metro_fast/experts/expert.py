"""A compressed expert with the ways to load it, to publish it and to describe it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metro_fast._shown import shown
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.experts.adapters.absent import absent
from metro_fast.experts.adapters.peft_folder import CONFIG, EXPERT_FILE, WEIGHTS, read_config
from metro_fast.experts.adapters.state_file import read_bytes
from metro_fast.experts.adapters.updates import ModuleFidelity
from metro_fast.experts.file.expert_file import ExpertFile
from metro_fast.experts.hub.card import model_card
from metro_fast.experts.hub.fetch import find_pretrained, missing, resolve_expert
from metro_fast.experts.hub.push import push_expert

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

__all__ = ["EXPERT_FILE", "Expert", "read_expert"]


class Expert(ExpertFile):
    """A compressed expert: 8 to 50 times smaller than its 16-bit adapter.

    `compress` makes one, `load` and `from_pretrained` read one. `save` writes it to a folder and
    `push_to_hub` to the Hub; `arrays`, `state_dict` and `trits` decode it. Its attributes and the
    arguments of the constructor, which takes the bytes of a file, are those of `ExpertFile`.

    Example:
        >>> import numpy as np
        >>> from metro_fast.experts import compress
        >>> weights = np.random.default_rng(0).standard_normal((64, 512)).astype(np.float32)
        >>> expert = compress({"layer.weight": weights}, kind="other", density=0.05)
        >>> expert
        Expert(kind='other', density=0.05, 2,481 bytes, 26.4x smaller than 16 bits)
        >>> expert.arrays()["layer.weight"].shape
        (64, 512)
    """

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        new_config: bool = False,
        max_decoded_bytes: int | None = None,
    ) -> "Expert":
        """Read an expert's folder, or its weights file alone.

        Args:
            path: A folder with the weights file and, for a PEFT adapter, adapter_config.json; or
                the weights file, beside which the configuration is looked for; or a name on the
                Hub, `hf://owner/name[@revision][/folder]` (see `resolve_expert`).
            new_config: Whether settings in adapter_config.json were changed on purpose since the
                expert was made; `save` then records the change, which is otherwise an error.
            max_decoded_bytes: Most bytes that a call may decode the expert to; by default
                METRO_FAST_MAX_DECODED_BYTES, and without it the free memory.

        Returns:
            The expert; nothing is decoded yet.

        Raises:
            FileNotFoundError: If there is no expert at the path.
            FormatError: If it is damaged, or has another version, or if settings in
                adapter_config.json are not those with which the expert was made.
            MetroFastError: If `new_config` is given and there is no configuration.
            OSError: If the Hub cannot be reached, or refuses.

        Example:
            >>> import numpy as np
            >>> from metro_fast.experts import compress
            >>> _ = compress({"w": np.float32([[1, -2]])}, kind="other", density=1).save("tiny")
            >>> Expert.load("tiny").arrays()["w"].shape
            (1, 2)
        """
        path = resolve_expert(path)
        if not path.exists():
            raise missing(path)
        folder = path if path.is_dir() else path.parent
        file = path / EXPERT_FILE if path.is_dir() else path
        if path.is_dir() and not file.exists() and (path / WEIGHTS).exists():
            raise FileNotFoundError(
                f"{path} holds a plain adapter and not {EXPERT_FILE}: compress it first"
            )
        if not file.exists():
            raise absent(path, "compressed expert", EXPERT_FILE)
        data = read_bytes(file)
        config = read_config(folder / CONFIG) if (folder / CONFIG).exists() else None
        if new_config and config is None:
            raise MetroFastError(f"new_config is given, but {folder} has no {CONFIG}: leave it out")
        try:
            if new_config and config is not None:
                return cls(data, max_decoded_bytes=max_decoded_bytes).with_config(config)
            return cls(data, config, max_decoded_bytes=max_decoded_bytes)
        except FormatError as error:
            raise FormatError(f"{file}: {shown(str(error), 500)}") from error

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> "Expert":
        """Read an expert from a folder or a weights file, or from the Hub.

        Only the weights file and adapter_config.json of a repository are fetched, both from one
        commit, and kept in the cache of huggingface_hub.

        Args:
            path_or_repo: A local path, or `owner/name` if there is no such path, or
                `hf://owner/name[@revision][/folder]`, which is never a local path.
            revision: Branch, tag or commit; the main branch by default.
            token: A token of the Hub, or whether to send the one of `hf auth login`, as is the
                default.
            cache_dir: Where downloads are kept; by default where huggingface_hub keeps them.
            local_files_only: Whether to use the cache alone and not to ask the Hub.

        Returns:
            The expert; nothing is decoded yet.

        Raises:
            MissingExtraError: If the Hub is asked and huggingface_hub is not installed.
            FileNotFoundError: If there is no such path, repository, revision or expert.
            PermissionError: If the repository is gated, or the token is refused.
            OSError: If the Hub cannot be reached.
            FormatError: If the expert is damaged, or has another version.
            MetroFastError: If the name is not that of a repository, or a revision is given with a
                local path.

        Example:
            >>> import numpy as np
            >>> from metro_fast.experts import Expert, compress
            >>> _ = compress({"w": np.float32([[1, -2]])}, kind="other", density=1).save("local")
            >>> Expert.from_pretrained("local").arrays()["w"].shape
            (1, 2)
        """
        path = find_pretrained(
            path_or_repo,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        return cls.load(path)

    def push_to_hub(
        self,
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
        """Upload the expert and a model card in one commit; see `push_expert` for the arguments.

        Returns:
            huggingface_hub's `CommitInfo`: a string, the commit's URL, with `oid` and `pr_url`.

        Raises:
            MetroFastError: If the repository has files that exclude the expert; nothing is uploaded
                then.
            OSError: If the Hub refuses or cannot be reached; the message says what to do.

        Example:
            >>> expert.push_to_hub("owner/name", private=True)  # doctest: +SKIP
        """
        return push_expert(
            self,
            repo_id,
            private=private,
            token=token,
            revision=revision,
            commit_message=commit_message,
            create_pr=create_pr,
            card=card,
            replace_card=replace_card,
        )

    def card(
        self,
        repo_id: str | None = None,
        *,
        license: str | None = None,  # noqa: A002  (the Hub's own word)
        base_model: str | None = None,
        fidelity: Sequence[ModuleFidelity] | None = None,
        rows: int = 10,
    ) -> str:
        """Write a model card with the figures of the expert; see `model_card` for the arguments.

        Returns:
            Markdown that begins with YAML between lines of `---`.

        Raises:
            FormatError: If a stream is damaged.

        Example:
            >>> import numpy as np
            >>> from metro_fast.experts import compress
            >>> expert = compress({"w": np.float32([[1, -2]])}, kind="other", density=1)
            >>> expert.card("owner/name").splitlines()[1]
            'library_name: metro_fast'
        """
        return model_card(
            self,
            repo_id,
            license=license,
            base_model=base_model,
            fidelity=fidelity,
            rows=rows,
        )


def read_expert(source: Expert | str | Path) -> Expert:
    """Return an expert as it is, or load the one at a path or a name on the Hub.

    Raises:
        TypeError: If the source is something else.
        FileNotFoundError: If there is no expert at the path.
        FormatError: If it is damaged, or has another version.
        OSError: If the Hub cannot be reached, or refuses.

    Example:
        >>> import numpy as np
        >>> from metro_fast.experts import compress
        >>> expert = compress({"w": np.float32([[1, -2]])}, kind="other", density=1)
        >>> read_expert(expert) is expert
        True
    """
    if isinstance(source, Expert):
        return source
    if isinstance(source, str | Path):
        return Expert.load(source)
    raise TypeError(
        f"an expert is a {type(source).__name__}, expected an Expert or the path of one"
    )
