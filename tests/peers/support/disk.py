"""A small disk of a test's own: a tmpfs in a mount namespace that is gone when its keeper is. Nothing is mounted where others
would see it, and root is not needed where user namespaces are allowed."""

import os
import shutil
import subprocess
from pathlib import Path

_KEEPER = 'mount -t tmpfs -o "size=$2,mode=0777" none "$1" && echo mounted && exec cat'


class Disk:
    """A disk of `mebibytes` that only processes started through `within` see; files of it are reached through `path`."""

    def __init__(self, place: Path, mebibytes: int) -> None:
        place.mkdir()
        self._place = place
        root = os.geteuid() == 0
        own = ["unshare", "--mount"] if root else ["unshare", "--mount", "--user", "--map-root-user"]
        self._keeper = subprocess.Popen(
            [*own, "sh", "-c", _KEEPER, "keeper", place, f"{mebibytes}m"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._keeper.stdout is not None and self._keeper.stderr is not None
        said = self._keeper.stdout.readline().strip()
        if said != "mounted":
            error = self._keeper.stderr.read()
            self.end()
            raise AssertionError(
                f"no tmpfs can be mounted here, so nothing can be said about a full disk: {error.strip()}. "
                "Run this as root, or allow user namespaces."
            )
        # The command that runs another one where the disk is.
        enter = ["nsenter", f"--target={self._keeper.pid}", "--mount"]
        self.within = enter if root else [*enter, "--user", "--preserve-credentials"]

    def path(self, name: str) -> Path:
        """A file of the disk, as seen from here."""
        return Path(f"/proc/{self._keeper.pid}/root{self._place}") / name

    @property
    def free(self) -> int:
        return shutil.disk_usage(self.path("")).free

    def fill(self, leave: int) -> None:
        """Takes all but `leave` bytes, in a file of its own. Others may write meanwhile."""
        filler = self.path("filler")
        with filler.open("ab") as file:
            size = file.tell()
            more = self.free - leave
            if more > 0:
                os.posix_fallocate(file.fileno(), size, more)

    def empty(self) -> None:
        """Gives back what `fill` took."""
        self.path("filler").unlink(missing_ok=True)

    def end(self) -> None:
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait(timeout=10)

