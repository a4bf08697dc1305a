"""The checksum by which an expert knows its adapter_config.json again."""

import json

import numpy as np

from metro_fast import _core
from metro_fast.experts.adapters.peft_folder import CONFIG, parse_config

_ORIGIN = ("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision")
"""Fields that say where an adapter comes from and not what its weights mean. People edit them, for
instance when a base moves."""


def config_checksum(config: bytes, where: object = CONFIG) -> int:
    """The CRC32C of what a configuration means, whatever its white space and the order of its keys.

    Args:
        config: The bytes of an adapter_config.json.
        where: Its path, for messages.

    Raises:
        FormatError: If it is not a configuration.

    Example:
        >>> one = config_checksum(b'{"r": 4, "lora_alpha": 8}')
        >>> one == config_checksum(b'{"lora_alpha":8,"r":4,"revision":"main"}')
        True
        >>> one == config_checksum(b'{"r": 4, "lora_alpha": 16}')
        False
    """
    fields = {
        key: value for key, value in parse_config(config, where).items() if key not in _ORIGIN
    }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return _core.crc32c(np.frombuffer(text.encode("ascii"), np.uint8))
