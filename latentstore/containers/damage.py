"""What bytes without sense make a library raise, as the one error that users see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from latentstore.errors import DamagedShardError


@contextmanager
def damage_to(sentence: str) -> Iterator[None]:
    """Whatever bytes without sense raise becomes a DamagedShardError: ``sentence`` (it names the file), and why."""
    import pyarrow as pa

    try:
        yield
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError, pa.ArrowException) as error:
        raise DamagedShardError(f"{sentence}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
