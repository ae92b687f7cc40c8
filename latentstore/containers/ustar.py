"""Headers of tar archives in POSIX's ustar format: names and sizes vary, everything else is always the same.

Formula: IEEE Std 1003.1-1988, "extended tar format". A header is one block of 512 bytes; the content that follows is
filled up with zeros to whole blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.errors import RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 512
END = bytes(2 * BLOCK)
"""What every archive ends with."""
LARGEST_FILE = (1 << 33) - 1
"""Bytes: eleven octal digits."""
CHECKSUM = slice(148, 156)
# Mode 644, user 0, group 0; then size and time (second 0, so that equal rows are equal bytes); then the checksum's
# place, a regular file, no link; then magic, version, no names, no device.
BEFORE_SIZE = b"0000644\0" + b"0000000\0" * 2
AFTER_SIZE = b"\0" + b"00000000000\0" + b" " * 8 + b"0" + bytes(100)
AFTER_LINK = (b"ustar\00000" + bytes(64) + b"0000000\0" * 2).ljust(BLOCK - 257, b"\0")


def header(name: bytes, size: int) -> bytes:
    """The header of a regular file of this name (at most 100 bytes of ASCII) and size in bytes."""
    if size > LARGEST_FILE:
        raise RequestError(f"A tar archive holds no file of more than {LARGEST_FILE:,} bytes, found one of {size:,}.")
    block = b"".join([name.ljust(100, b"\0"), BEFORE_SIZE, b"%011o" % size, AFTER_SIZE, AFTER_LINK])
    return b"".join([block[: CHECKSUM.start], b"%06o\0 " % sum(block), block[CHECKSUM.stop :]])


def set_checksums(blocks: NDArray[np.uint8]) -> None:
    """Put the right checksum into each of (N, 512) headers."""
    blocks[:, CHECKSUM] = ord(" ")  # the sum is taken over spaces in its own place
    sums = blocks.sum(axis=1, dtype=np.int64)
    blocks[:, CHECKSUM] = np.frombuffer(b"000000\0 ", np.uint8)
    blocks[:, CHECKSUM.start : CHECKSUM.start + 6] = digits_of(sums, base=8, count=6)


def digits_of(numbers: NDArray[np.int64], *, base: int, count: int) -> NDArray[np.uint8]:
    """(N, count): the last digits of each number in ASCII."""
    powers = base ** np.arange(count - 1, -1, -1, dtype=np.int64)
    return (numbers[:, None] // powers % base + ord("0")).astype(np.uint8)


def whole_blocks(size: Any) -> Any:
    """Bytes that a content of ``size`` bytes (a number, or an array of them) takes in an archive."""
    return -(-size // BLOCK) * BLOCK


def fill(size: int) -> bytes:
    """The zeros after a content of ``size`` bytes."""
    return bytes(whole_blocks(size) - size)
