"""Workers for the fuzz run that do what a damaged file might do to a process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def dies(_: dict[str, Path], __: int, pipe: Connection) -> None:
    """Ends like a process whose library crashed."""
    pipe.recv()
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(_: dict[str, Path], __: int, pipe: Connection) -> None:
    """Never answers."""
    pipe.recv()
    time.sleep(600)
