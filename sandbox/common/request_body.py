"""Request bodies in HTTP/1.1: with Content-Length or chunked (RFC 9112)."""

import re
from collections.abc import Sequence
from typing import Protocol

from sandbox.stripe.api.errors import StripeError

# Assumed: Stripe documents no limit; its longest parameters are a few kilobytes.
MAX_BODY_BYTES = 1024 * 1024
LENGTH = re.compile(r"\d{1,18}", re.ASCII)
CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;.*)?\r?\n")
MAX_LINE_BYTES = 4096


class Stream(Protocol):
    """Input stream of a connection."""

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, or fewer at the end of the stream."""

    def readline(self, size: int, /) -> bytes:
        """Return a line of at most `size` bytes."""


def read_body(
    stream: Stream, lengths: Sequence[str], encodings: Sequence[str]
) -> bytes:
    """Return the body, given the values of Content-Length and Transfer-Encoding.

    Raises a 400 for contradictory headers or an incomplete body and a 413 for a body
    that is too large. The caller must then close the connection.
    """
    if not encodings:
        return _read_exactly(stream, _length(lengths))
    # Both headers together are an error: they allow request smuggling (RFC 9112, 6.3).
    if lengths or [encoding.lower() for encoding in encodings] != ["chunked"]:
        raise unreadable("The Transfer-Encoding of this request is not supported.")
    return _read_chunks(stream)


def unreadable(message: str, status: int = 400) -> StripeError:
    """Return the error for a request that cannot be parsed."""
    return StripeError(status, message, stored=False)


def _length(lengths: Sequence[str]) -> int:
    if not lengths:
        return 0
    if len(set(lengths)) > 1 or not LENGTH.fullmatch(lengths[0]):
        raise unreadable("The Content-Length of this request is not a number.")
    return _checked_length(int(lengths[0]))


def _checked_length(length: int) -> int:
    if length > MAX_BODY_BYTES:
        raise unreadable(
            f"A request body can have at most {MAX_BODY_BYTES} bytes.", status=413
        )
    return length


def _read_exactly(stream: Stream, length: int) -> bytes:
    body = stream.read(length)
    if len(body) < length:
        raise unreadable("The body of this request is incomplete.")
    return body


def _read_chunks(stream: Stream) -> bytes:
    body = b""
    while size := _chunk_size(stream):
        body += _read_exactly(stream, _checked_length(len(body) + size) - len(body))
        if stream.readline(MAX_LINE_BYTES).strip():
            raise unreadable("A chunk of this request is longer than its size.")
    while stream.readline(MAX_LINE_BYTES).strip():
        pass  # Trailer fields are ignored.
    return body


def _chunk_size(stream: Stream) -> int:
    line = CHUNK_SIZE.fullmatch(stream.readline(MAX_LINE_BYTES))
    if line is None:
        raise unreadable("A chunk of this request has no size.")
    return int(line[1], 16)
