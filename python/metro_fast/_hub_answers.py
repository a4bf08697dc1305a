"""Asks once whether the Hub can be reached, before a name is looked up there."""

import ssl
import urllib.error
import urllib.request
from pathlib import Path

from metro_fast._extras import require

_SECONDS = 10


def check_hub(name: str | Path, folder: Path | None) -> None:
    """Refuse a name at once if the Hub cannot be reached and the cache has nothing of that name.

    transformers asks for each of several files five times before it gives up, which takes a minute,
    and most such names are those of folders that do not exist.

    Args:
        name: A name on the Hub, or the path of a folder.
        folder: The folder, for which there is nothing to ask.

    Raises:
        OSError: If nothing answers.

    Example:
        >>> check_hub("run/main", Path("run/main"))
    """
    if folder is not None:
        return
    hub = require("huggingface_hub", "train")
    files = ("config.json", "tokenizer_config.json")
    if hub.is_offline_mode() or any(hub.try_to_load_from_cache(str(name), file) for file in files):
        return
    hub_url = hub.constants.ENDPOINT
    try:
        urllib.request.urlopen(
            urllib.request.Request(hub_url, method="HEAD"), timeout=_SECONDS
        ).close()
    except urllib.error.HTTPError:
        return  # this is an answer too
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return  # huggingface_hub may have certificates of its own
        raise OSError(
            f"{name} is not a folder here, and {hub_url} cannot be reached to look it up ({reason})"
        ) from error
