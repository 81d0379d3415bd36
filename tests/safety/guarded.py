"""``python -m tests.safety.guarded ARGUMENTS``: petkit in a process in which opening or resolving an address is an error."""

from __future__ import annotations

import socket
import sys
from typing import Any, NoReturn


def refuse(*address: Any, **options: Any) -> NoReturn:
    """Stand in for whatever opens a connection; the process leaves at once, so that nobody can catch it."""
    import os

    os.write(2, f"NETWORK: {address[-1]!r}\n".encode())
    os._exit(99)


class Guarded(socket.socket):
    """A socket that cannot be connected."""

    connect = connect_ex = sendto = refuse  # type: ignore[assignment]


socket.socket = Guarded  # type: ignore[misc]
socket.create_connection = socket.getaddrinfo = socket.gethostbyname = refuse  # type: ignore[assignment]

if __name__ == "__main__":
    from petkit.cli import main

    sys.argv = ["petkit", *sys.argv[1:]]
    main()
