"""Errors of the Hugging Face Hub, in messages that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from metro_fast._extras import require
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import EXPERT_FILE
from metro_fast.experts.hub.name import HubName

_LOG_IN = "log in with `hf auth login`, set HF_TOKEN, or pass token="


@dataclass(frozen=True)
class Place:
    """The file or repository that the Hub is asked for.

    Attributes:
        name: The expert.
        file: The file that is fetched, or None if the expert is being pushed.
        local_files_only: Whether the caller has forbidden to ask the Hub.

    Example:
        >>> print(Place(HubName("owner/name")))
        owner/name at revision main
    """

    name: HubName
    file: str | None = None
    local_files_only: bool = False

    def __str__(self) -> str:
        """The repository and revision, for messages."""
        return f"{self.name.repo} at revision {self.name.revision or 'main'}"


@contextmanager
def hub_errors(place: Place) -> Iterator[None]:
    """Turn errors of huggingface_hub into one that has the repository, the revision and advice.

    Args:
        place: What the Hub is asked for.

    Raises:
        FileNotFoundError: If there is no such repository, revision or file, or it is not cached.
        PermissionError: If it is gated or disabled, or access is refused.
        ConnectionError: If the Hub cannot be reached.
        OSError: If the Hub gives any other answer.
        MetroFastError: If the Hub rejects an argument.
    """
    errors = error_types()
    try:
        yield
    except MetroFastError:
        raise
    except errors.LocalEntryNotFoundError as error:
        if isinstance(error.__cause__, errors.HfHubHTTPError):  # it was not cached, either
            raise _answer(errors, place, error.__cause__) from error
        raise FileNotFoundError(_not_cached(errors, place, error)) from error
    except errors.HfHubHTTPError as error:
        raise _answer(errors, place, error) from error
    except errors.OfflineModeIsEnabled as error:
        raise ConnectionError(
            f"{place} cannot be reached: HF_HUB_OFFLINE is set in the environment; unset it"
        ) from error
    except errors.HTTPError as error:  # of httpx, which is not an OSError
        raise ConnectionError(
            f"{place} cannot be reached ({type(error).__name__}: {error}): check the connection, "
            "the proxy and HF_ENDPOINT"
        ) from error
    except RuntimeError as error:  # of hf_xet, which moves the bytes
        raise OSError(f"the transfer of {place} failed: {error}") from error
    except ValueError as error:  # of names, and of the card's metadata, which the Hub checks
        raise MetroFastError(f"{place}: {error}") from error


def error_types() -> Any:
    """The module with huggingface_hub's errors, which huggingface_hub itself does not import."""
    return require("huggingface_hub.errors", "peft")


def _not_cached(errors: Any, place: Place, error: Exception) -> str:
    absent = f"{place.name.file(place.file or EXPERT_FILE)} of {place} is not in the cache"
    if place.local_files_only:
        return f"{absent}, and local_files_only=True forbids asking the Hub: leave it out once"
    if isinstance(error.__cause__, errors.OfflineModeIsEnabled):
        return f"{absent}, and HF_HUB_OFFLINE is set in the environment: unset it once"
    reason = error.__cause__ or error
    return (
        f"{absent}, and the Hub cannot be reached ({type(reason).__name__}: {reason}): check the "
        "connection, the proxy and HF_ENDPOINT"
    )


def _answer(errors: Any, place: Place, error: Any) -> OSError:
    """The error that an answer of the Hub becomes."""
    repo, status = place.name.repo, error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        return PermissionError(
            f"{place} is gated: ask for access at https://huggingface.co/{repo}, then {_LOG_IN}"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f"the Hub shows no repository {repo} (asked for {place}): check the name; if it is "
            f"private, {_LOG_IN}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(
            f"{repo} has no revision {quoted(place.name.revision or 'main')}: name a branch, a tag "
            "or a commit that it has"
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        file = place.name.file(place.file or EXPERT_FILE)
        return FileNotFoundError(
            f"{place} has no {file}, so it holds no compressed expert: name the folder of one, as "
            f"in hf://{repo}/FOLDER, or compress the adapter first"
        )
    reason = error.server_message or str(error).partition("\n")[0]
    if isinstance(error, errors.DisabledRepoError) or status in (401, 403):
        return PermissionError(f"the Hub refused {place} ({status}: {reason}): {_LOG_IN}")
    return OSError(f"the Hub answered {status} to {place}: {reason}")
