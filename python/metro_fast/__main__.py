"""`python -m metro_fast` is `metro-fast`."""

from metro_fast.cli import main

main()
