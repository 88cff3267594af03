"""Answers of API and relays, over HTTP and WebSocket, with the faults for them."""

import asyncio
from functools import partial

from sandbox.common.http import Request, Response, Steps, in_thread
from sandbox.common.websocket import WebSocket
from sandbox.zooid.faults import Place, ZooidFault
from sandbox.zooid.relays import home, nip11, nip86
from sandbox.zooid.relays.base_url import websocket_url
from sandbox.zooid.relays.instances import Instance
from sandbox.zooid.relays.session import Session
from sandbox.zooid.zooid import Zooid

TEXT = {"Content-Type": "text/plain; charset=utf-8"}
NOT_FOUND = Response(404, b"Not Found\n", TEXT)
#: Go's answer to a path that a relay does not know.
NO_PAGE = Response(404, b"404 page not found\n", TEXT)
ENDED = Response(0, broken="reset")


def respond(zooid: Zooid, request: Request) -> Steps:
    """Respond to a request to the API or to a relay."""
    if zooid.latency:
        yield zooid.latency
    is_api = _is_api(zooid, request)
    if is_api:
        with zooid.lock:
            zooid.api.record(request)
    answer = partial(_answer_api if is_api else _answer_relay, zooid, request)
    fault = _take_fault(zooid, request, "api" if is_api else "relays")
    if fault is None:
        return answer()
    return (yield from in_thread(fault.respond, answer))


async def serve_websocket(zooid: Zooid, websocket: WebSocket) -> None:
    """Serve a Nostr connection to a relay."""
    await asyncio.sleep(zooid.latency)
    request = websocket.request
    fault = _take_fault(zooid, request, "relays")
    if fault is not None:
        refusal = await asyncio.to_thread(fault.respond, lambda: NOT_FOUND)
        if refusal is not NOT_FOUND:
            await websocket.reject(refusal)
            return
    instance = zooid.find(request.headers.get("host", ""))
    if instance is None:
        await websocket.reject(NOT_FOUND)
    else:
        await websocket.accept()
        await _serve_session(zooid, instance, websocket)


def _is_api(zooid: Zooid, request: Request) -> bool:
    # zooid serves its API on API_HOST only; any other host would be a relay.
    return f"http://{request.headers.get('host')}" == zooid.url


def _take_fault(zooid: Zooid, request: Request, place: Place) -> ZooidFault | None:
    return zooid.faults.take(lambda fault: fault.matches(place, request))


def _answer_api(zooid: Zooid, request: Request) -> Response:
    with zooid.lock:
        if zooid.panic:
            return ENDED
        response = zooid.api.handle(request)
    zooid.reload_due()
    return response


def _answer_relay(zooid: Zooid, request: Request) -> Response:
    instance = zooid.find(request.headers.get("host", ""))
    if zooid.panic:
        return ENDED
    if instance is None:
        return NOT_FOUND
    if nip11.is_asked(request):
        return nip11.respond(instance.document)
    if nip86.is_called(request):
        return _manage(zooid, instance, request)
    if request.path != "/":
        return NO_PAGE
    return home.respond(instance.config, websocket_url(request))


def _manage(zooid: Zooid, instance: Instance, request: Request) -> Response:
    """Change a relay with NIP-86.

    As in zooid, its configuration is written as it was when the relay was built: what
    has been written since, and not been reloaded, is lost.
    """
    try:
        config = nip86.changed_config(instance.config, request)
    except nip86.Rejected as exc:
        return nip86.respond(error=str(exc))
    with zooid.lock:
        zooid.write(instance.relay_id, config, "nip86")
    zooid.reload_due()
    return nip86.respond(True)


async def _serve_session(
    zooid: Zooid, instance: Instance, websocket: WebSocket
) -> None:
    url = websocket_url(websocket.request)
    session = Session(instance, zooid.store.database, url)
    writer = asyncio.create_task(_write(zooid, session, websocket))
    try:
        async for message in websocket.messages():
            with zooid.lock:
                session.receive(message)
    finally:
        session.close()
        writer.cancel()


async def _write(zooid: Zooid, session: Session, websocket: WebSocket) -> None:
    sent = 0
    while True:
        text = await session.unsent.get()
        if sent == zooid.max_messages:
            websocket.abort()
            return
        await websocket.send(text)
        sent += 1
