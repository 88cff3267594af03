"""Files that are sent in parts, since they do not fit into memory."""

from collections.abc import Iterator
from contextlib import ExitStack

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header

from caravel.core.web.throttling import client_address, download_limit


class _Parts:
    """Parts of a file: after the last one, or closed before, its slot is free."""

    def __init__(self, parts: Iterator[bytes], slot: ExitStack) -> None:
        self._parts = parts
        self._slot = slot

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._parts)
        except StopIteration:
            self.close()
            raise

    def close(self) -> None:
        self._slot.close()


def download(
    request: HttpRequest,
    parts: Iterator[bytes],
    *,
    name: str,
    size: int,
    content_type: str,
    exclusive: str,
) -> HttpResponseBase:
    """Return a response that sends a file of a known size in parts.

    Of the same exclusive key, and to the same address, only one download runs at once:
    a slow reader holds a thread for hours. Raises Overloaded.
    """
    headers = {
        "Content-Length": str(size),
        "Content-Type": content_type,
        "Content-Disposition": content_disposition_header(True, name) or "",
    }
    if request.method == "HEAD":
        return HttpResponse(headers=headers)
    with ExitStack() as stack:
        address = f"address {client_address(request)}"
        stack.enter_context(download_limit(exclusive, address))
        slot = stack.pop_all()
    # Django closes the parts together with the response.
    return StreamingHttpResponse(_Parts(parts, slot), headers=headers)
