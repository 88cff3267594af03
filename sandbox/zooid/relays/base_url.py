"""The address at which khatru believes that it is reached.

https://github.com/fiatjaf/khatru/blob/master/utils.go
"""

from sandbox.common.http import Request


def base_url(request: Request) -> str:
    """Return the base URL of a relay: https, unless the host has a port or is an IP.

    A proxy can name host and scheme.
    """
    host = request.headers.get("x-forwarded-host") or request.headers.get("host", "")
    scheme = request.headers.get("x-forwarded-proto")
    is_plain = host == "localhost" or ":" in host or host.replace(".", "").isdecimal()
    return f"{scheme or ('http' if is_plain else 'https')}://{host}"


def websocket_url(request: Request) -> str:
    """Return the base URL as the one of a WebSocket."""
    return base_url(request).replace("http", "ws", 1)
