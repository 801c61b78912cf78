"""A reference-counted file that several processes of one machine fill and read, as long as any of them needs it."""

import fcntl
import os
import platform
from pathlib import Path


def decoded_file(folder: Path, name: str) -> Path:
    """Path of this machine's file of decoded images. Machines that share the folder have a file each, because a mapped
    file shows only what the same machine writes."""
    return folder / f"{name}-{platform.node()}.decoded"


class RefCountedFile:
    """A file that several processes use: empty for the first one, removed by the last one."""

    def __init__(self, file: Path) -> None:
        """Raises OSError if the file system can't lock."""
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        while not self._lock():
            pass

    def _lock(self) -> bool:
        """Locks the file; False if its last user removed it between opening and locking."""
        self._handle = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if self._is_alone():
                # A killed run may have left flags whose pixels never reached the disk.
                os.ftruncate(self._handle, 0)
            fcntl.flock(self._handle, fcntl.LOCK_SH)
            if os.path.samestat(self.file.stat(), os.fstat(self._handle)):
                return True
        except FileNotFoundError:
            pass
        except OSError:
            os.close(self._handle)
            raise
        os.close(self._handle)
        return False

    def release(self) -> None:
        if self._is_alone():
            self.file.unlink(missing_ok=True)
        os.close(self._handle)

    def _is_alone(self) -> bool:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
