"""`python -m metro_fast.cli` is `metro-fast`."""

from metro_fast.cli import main

main()
