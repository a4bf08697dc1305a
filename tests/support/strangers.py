"""Experts whose configuration is not the one that they were made with."""

from dataclasses import replace

from metro_fast import _core
from metro_fast.experts import Expert


def with_other_config(expert: Expert, config: bytes) -> Expert:
    """The weights of an expert beside another configuration, whose checksum nobody recorded.

    So are experts of the versions 1 and 2, and with them all checks but that of the checksum.
    """
    file = _core.encode_expert(
        replace(expert.manifest, config_crc32c=None).to_json(),
        expert.scales,
        expert.block,
        [tensor.bytes for tensor in expert.dense.values()],
    )
    return Expert(file, config)
