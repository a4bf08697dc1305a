"""`make cubins`: compile every kernel for common GPUs, to be shipped in a released wheel."""

import shutil
from pathlib import Path

from metro_fast import _core
from metro_fast.ops.cuda import launch

ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


def main() -> None:
    """Empty the folder, fill it, and print its size."""
    shutil.rmtree(launch.SHIPPED, ignore_errors=True)
    names = launch.nvrtc_names()
    for source in sorted(Path(__file__).parent.glob("*.cu")):
        for architecture in ARCHITECTURES:
            _core.cuda_compile(
                source.name, architecture, nvrtc=names, cache=None, shipped=launch.SHIPPED
            )
    files = list(launch.SHIPPED.iterdir())
    print(f"{launch.SHIPPED}: {len(files)} files, {sum(f.stat().st_size for f in files):,} bytes")


if __name__ == "__main__":
    main()
