"""The command line, and a finished run to predict with."""

from tests.cli.conftest import finished_run, petkit_command

__all__ = ["finished_run", "petkit_command"]
