"""Opening a connection to a relay, and judging the address that is really dialled.

A stranger's relay URL must not make us call our own network. Names are resolved here,
each time; what was judged is what the socket connects to, so a name that changes its
mind between two look-ups gains nothing. Redirects and proxies are not followed.
"""

import asyncio
import ipaddress
import os
import re
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect

from caravel.core.exceptions import CaravelError

#: Seconds for the name, the TCP connection, TLS and the handshake together.
CONNECT_TIMEOUT = 10.0
#: The max_bytes message that a relay may send, in bytes.
MAX_MESSAGE = 512 * 1024
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: All that is routed (RFC 4291, 2.4); Python counts old site-local addresses too.
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
# In none of Python's lists: special purposes (RFC 6890, 7526), in some clouds among
# them the service that hands out credentials; and the host of a machine at Azure.
# https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
_NOT_PUBLIC = [
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20")
]


class RelayUnreachable(CaravelError):
    """No connection came about: nothing at all was sent."""

    code = "relay-unreachable"
    status = 503


class PrivateAddress(RelayUnreachable):
    """The relay's name leads to an address that is not public."""

    code = "relay-address-private"
    status = 422


@dataclass(frozen=True)
class Endpoint:
    """A relay, and whether its address may be a private one."""

    url: str
    private_allowed: bool = False

    @property
    def host(self) -> str:
        """The host and port, for people."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


def read_relay(text: str) -> str:
    """Return a relay's address with its host in lower case, "" if it is none.

    A fragment or a password would be somebody's mistake.
    """
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return ""
    spelled = re.fullmatch(r"wss?://\S+", text, re.IGNORECASE) and text.isprintable()
    if not usable or not spelled or "@" in parts.netloc or parts.fragment:
        return ""
    return parts._replace(netloc=parts.netloc.lower()).geturl()


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet.

    Addresses that only wrap another one count as that one.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
        if ip not in _GLOBAL_IPV6:
            return False
    if any(ip in network for network in _NOT_PUBLIC):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


async def dial(endpoint: Endpoint) -> ClientConnection:
    """Connect to a relay. Raises RelayUnreachable, PrivateAddress if that is why."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await _websocket(endpoint, await _socket(endpoint))
    except PrivateAddress:
        raise
    except Exception as exc:  # a stranger's name or server leads to any
        raise RelayUnreachable(f"The relay {endpoint.host} does not answer.") from exc


async def _websocket(endpoint: Endpoint, sock: socket.socket) -> ClientConnection:
    secure = endpoint.url.startswith("wss:")
    try:
        return await connect(
            endpoint.url,
            sock=sock,
            ssl=_tls() if secure else None,
            compression=None,
            max_size=MAX_MESSAGE,
            open_timeout=None,
            close_timeout=1,
        )
    except BaseException:
        sock.close()
        raise


async def _socket(endpoint: Endpoint) -> socket.socket:
    """Return a socket connected to the first of the relay's addresses that answers."""
    parts = urlsplit(endpoint.url)
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    look_up = partial(socket.getaddrinfo, parts.hostname, port, type=socket.SOCK_STREAM)
    threads = _threads_for_names(os.getpid(), endpoint.private_allowed)
    found = await asyncio.get_running_loop().run_in_executor(threads, look_up)
    if not endpoint.private_allowed and not all(is_public(str(a[4][0])) for a in found):
        raise PrivateAddress(
            f"The relay {endpoint.host} is not on the public internet."
        )
    failure: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in found:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT / len(found)):
                return await _connected(socket.socket(family, kind, protocol), address)
        except OSError as exc:
            failure = exc
    raise failure


async def _connected(sock: socket.socket, address: Any) -> socket.socket:
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


@cache
def _threads_for_names(pid: int, private_allowed: bool) -> ThreadPoolExecutor:
    """Return the process's threads in which names are looked up.

    A name server that is silent holds one for half a minute, whoever waits; so names
    that strangers give have other threads than those of our own relays.
    """
    return ThreadPoolExecutor(32, thread_name_prefix="names")


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
