"""Who types: for the ledger, and for the runs that they start."""

import getpass
import os
import socket


def user_name() -> str:
    """The name of the account; its number where it has none, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def current_user() -> str:
    """USER@HOST."""
    return f"{user_name()}@{socket.gethostname()}"
