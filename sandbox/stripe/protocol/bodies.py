"""The body of a request on the wire: of known length, or in chunks (RFC 9112)."""

import re
from collections.abc import Sequence
from typing import Protocol

from sandbox.stripe.protocol.errors import StripeError

# Assumed: Stripe names no limit; its longest parameters are some kilobytes.
LARGEST = 1024 * 1024
LENGTH = re.compile(r"\d{1,18}", re.ASCII)
CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;.*)?\r?\n")
LONGEST_LINE = 4096


class Stream(Protocol):
    """What a connection is read through."""

    def read(self, size: int, /) -> bytes:
        """Return so many bytes, fewer at the end."""

    def readline(self, size: int, /) -> bytes:
        """Return a line of at most so many bytes."""


def read_body(
    stream: Stream, lengths: Sequence[str], encodings: Sequence[str]
) -> bytes:
    """Return the body that the headers announce.

    Raises a 400 for headers that contradict themselves and for a body that ends too
    soon, a 413 for one that is too large. The connection is then of no further use.
    """
    if not encodings:
        return _exactly(stream, _length(lengths))
    if lengths or [one.lower() for one in encodings] != ["chunked"]:
        raise unreadable("The Transfer-Encoding of this request is not understood.")
    return _chunks(stream)


def unreadable(message: str, status: int = 400) -> StripeError:
    """Return the error for a request that could not be read off the wire."""
    return StripeError(status, message, stored=False)


def _length(lengths: Sequence[str]) -> int:
    if not lengths:
        return 0
    if len(set(lengths)) > 1 or not LENGTH.fullmatch(lengths[0]):
        raise unreadable("The Content-Length of this request is not a number.")
    return _allowed(int(lengths[0]))


def _allowed(length: int) -> int:
    if length > LARGEST:
        raise unreadable(f"A request has {LARGEST} bytes at most.", status=413)
    return length


def _exactly(stream: Stream, length: int) -> bytes:
    body = stream.read(length)
    if len(body) < length:
        raise unreadable("The request ended before its body did.")
    return body


def _chunks(stream: Stream) -> bytes:
    body = b""
    while size := _chunk_size(stream):
        body += _exactly(stream, _allowed(len(body) + size) - len(body))
        if stream.readline(LONGEST_LINE).strip():
            raise unreadable("A chunk of this request is longer than it says.")
    while stream.readline(LONGEST_LINE).strip():
        pass  # trailers, which nobody asked for
    return body


def _chunk_size(stream: Stream) -> int:
    line = CHUNK_SIZE.fullmatch(stream.readline(LONGEST_LINE))
    if line is None:
        raise unreadable("A chunk of this request has no length.")
    return int(line[1], 16)
