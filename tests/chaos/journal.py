"""Journals: one JSON object a line, in the order in which things happened. The oracle reads nothing else."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """Written by any thread."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")
        self._lock = threading.Lock()

    def write(self, sync: bool = False, **entry: Any) -> None:
        """With `sync` the entry is on disk when this returns."""
        line = json.dumps({"time": time.time(), **entry}, separators=(",", ":"))
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()
            if sync:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """What was written, without a last line that a kill cut off."""
    with path.open() as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
