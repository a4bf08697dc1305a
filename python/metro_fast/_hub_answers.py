"""Asks once whether the Hub can be reached, before a name is looked up there."""

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
        # The Hub's own client, with the proxies and certificates that the downloads would have.
        hub.get_session().head(hub_url, timeout=_SECONDS)  # any answer will do
    except hub.errors.HTTPError as error:
        raise OSError(
            f"{name} is not a folder here, and {hub_url} cannot be reached to look it up ({error})"
        ) from error
