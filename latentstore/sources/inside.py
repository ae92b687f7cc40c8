"""Which files are a source's own: those that lie in its folder, whatever links and names in there say."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from latentstore.system.safe_paths import stays_below

FOLLOW_LINKS = "follow_links"
"""The option of a source that lets links lead out of its folder."""
LINK_OUT = "is a link that leads out of the source, and is only followed with --follow-links"
_SNAPSHOT = re.compile(r"(.*/datasets--[^/]+)/snapshots/[^/]+(?:/.*)?")


def home_of(folder: str | Path) -> Path:
    """The folder that the files of a source at ``folder`` may lie in: itself.

    In the cache of the Hub's client a snapshot consists of links to files beside it: there it is the repository's.
    """
    found = _SNAPSHOT.fullmatch(Path(folder).absolute().as_posix())
    return Path(found[1]) if found else Path(folder)


def leads_out(home: Path, path: str | Path) -> bool:
    """Whether a path, once every link on the way was followed, is of a file outside a source's home.

    Links in a circle lead nowhere, which is said when they are read.
    """
    return not stays_below(home, Path(path)) and not _in_a_circle(path)


def _in_a_circle(path: str | Path) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - names may be undecodable bytes
    except OSError as error:
        return error.errno == errno.ELOOP
    except ValueError:  # a name that no system takes
        return False
    return False
