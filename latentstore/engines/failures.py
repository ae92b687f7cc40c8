"""How a worker's work ended early, in a form that another process can receive."""

from __future__ import annotations

import pickle
import traceback
from dataclasses import dataclass
from typing import NoReturn

from latentstore.errors import LatentStoreError, RequestError


@dataclass(frozen=True)
class Failed:
    """How a worker's work ended early."""

    error: LatentStoreError | None
    trace: str = ""
    """Of an error that is a bug."""

    @classmethod
    def by(cls, error: Exception) -> Failed:
        """What a worker says of this error."""
        if isinstance(error, LatentStoreError):
            return cls(_sendable(error))
        return cls(None, "".join(traceback.format_exception(error)))

    def raise_here(self) -> NoReturn:
        """Raise it in the process that heard of it; RuntimeError for a bug."""
        if self.error is not None:
            raise self.error
        message = f"a worker of this build came upon a bug:\n{self.trace}"
        raise RuntimeError(message)


def _sendable(error: LatentStoreError) -> LatentStoreError:
    """The error as another process can receive it."""
    try:
        received = pickle.loads(pickle.dumps(error))  # noqa: S301 (made in this very line)
    except Exception:  # noqa: BLE001 (whatever its class does)
        return RequestError(str(error))
    return received if str(received) == str(error) else RequestError(str(error))
