"""A file that several processes of one machine fill and read together, as long as any of them needs it."""

import fcntl
import os
import platform
from pathlib import Path


def decoded_file(folder: Path, name: str) -> Path:
    """Where this machine keeps decoded images by that name; another one that shares the folder has its own file, for a
    mapped file shows only what is written on the same machine."""
    return folder / f"{name}-{platform.node()}.decoded"


class RefCountedFile:
    """A file that several processes share: empty when the first one takes it, removed when the last one lets it go."""

    def __init__(self, file: Path) -> None:
        """Raises OSError where the file system can't lock."""
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        while not self._take():
            pass

    def _take(self) -> bool:
        """False where the last holder removed the file between its opening and its lock."""
        self._handle = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if self._is_alone():
                # What a killed run left may have marks whose pixels never reached the disk.
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
