"""``petkit``, and ``python -m petkit``."""

import sys


def main() -> None:
    """Run the command line; a Ctrl-C while it is imported leaves no traceback either."""
    try:
        from petkit.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
