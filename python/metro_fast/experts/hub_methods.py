"""What an `Expert` can do with the Hugging Face Hub: thin calls of hub.py, push.py and card.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from metro_fast.experts.adapters.updates import ModuleFidelity
from metro_fast.experts.hub.card import model_card
from metro_fast.experts.hub.fetch import find_pretrained
from metro_fast.experts.hub.push import push_expert

if TYPE_CHECKING:
    from metro_fast.experts.expert import Expert


class HubMethods:
    """Methods of `Expert`, in a file of their own."""

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

        Of a repository only the weights file and adapter_config.json are fetched, both of one
        commit, and kept in the cache of huggingface_hub.

        Args:
            path_or_repo: A local path; else `owner/name`, or
                `hf://owner/name[@revision][/folder]`, which is never a local path.
            revision: Branch, tag or commit; the main branch by default.
            token: Of the Hub, or whether to send the one of `hf auth login`, which is the default.
            cache_dir: Where downloads are kept; by default where huggingface_hub keeps them.
            local_files_only: Whether to take what the cache has and not to ask the Hub.

        Returns:
            The expert; nothing is decoded yet.

        Raises:
            MissingExtraError: If the Hub is asked and huggingface_hub is not installed.
            FileNotFoundError: If there is no such path, repository, revision or expert.
            PermissionError: If the repository is gated, or the token is refused.
            OSError: If the Hub cannot be reached.
            FormatError: If the expert is damaged, or of another version.
            MetroFastError: If the name is none of a repository, or a revision does not belong.

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
        return cast("type[Expert]", cls).load(path)

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
    ) -> Any:
        """Upload the expert and a model card in one commit; see `push_expert` for the arguments.

        Returns:
            huggingface_hub's `CommitInfo`: a string, the commit's URL, with `oid` and `pr_url`.

        Raises:
            MetroFastError: If the expert must not lie there; nothing is uploaded then.
            OSError: If the Hub refuses or cannot be reached; the message says what to do.

        Example:
            >>> expert.push_to_hub("owner/name", private=True)  # doctest: +SKIP
        """
        return push_expert(
            cast("Expert", self),
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
        """A model card with the expert's own figures; see `model_card` for the arguments.

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
            cast("Expert", self),
            repo_id,
            license=license,
            base_model=base_model,
            fidelity=fidelity,
            rows=rows,
        )
