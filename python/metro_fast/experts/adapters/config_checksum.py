"""The checksum by which an expert knows its adapter_config.json again."""

import json

import numpy as np

from metro_fast import _core
from metro_fast.experts.adapters.peft_folder import CONFIG, parse_config

_ORIGIN = ("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision")
"""Fields that say where an adapter comes from and not what its weights mean. People edit them, for
instance when a base moves."""

_SETS = ("exclude_modules", "feedforward_modules", "modules_to_save", "target_modules")
"""Lists without an order. PEFT keeps most of them as sets, so that one and the same adapter is
saved with another order by every process."""


def config_checksum(config: bytes, where: object = CONFIG) -> int:
    """The CRC32C of what a configuration means: white space and the order of keys do not count.

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
        >>> q, v = (b'{"target_modules": ["q", "v"]}', b'{"target_modules": ["v", "q"]}')
        >>> config_checksum(q) == config_checksum(v)
        True
    """
    fields = {
        key: sorted(value, key=str) if key in _SETS and isinstance(value, list) else value
        for key, value in parse_config(config, where).items()
        if key not in _ORIGIN
    }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return _core.crc32c(np.frombuffer(text.encode("ascii"), np.uint8))
