"""Clocks on the wall that a test sets, for processes that know nothing of it: Debian's libfaketime. What measures how long something
takes goes on as it does."""

import os
from pathlib import Path


def _library() -> Path:
    for folder in (Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib")):
        for found in sorted(folder.glob("**/faketime/libfaketimeMT.so.1")):
            return found
    raise AssertionError("libfaketime is missing: install Debian's package libfaketime")


class Clock:
    """The clock of every process that is started with its settings."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)
        self.settings = {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: int) -> None:
        """So far ahead of the true time, from now on."""
        draft = self._file.with_suffix(".new")
        draft.write_text(f"+{seconds}\n")
        # Nobody reads half of it.
        os.replace(draft, self._file)
