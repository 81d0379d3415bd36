"""``python -m petkit``."""

from petkit.cli import main

main()
