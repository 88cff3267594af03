"""nostr-sdk's LocalRelay. An argument, read or both, says what needs authentication."""

import asyncio
import json
import os
import sys
from typing import Any

from connections import drop_connections
from lines import serve_calls
from nostr_sdk import (
    Event,
    LocalRelayBuilder,
    LocalRelayBuilderNip42,
    LocalRelayBuilderNip42Mode,
    RateLimit,
    WritePolicy,
    WritePolicyResult,
    uniffi_set_event_loop,
)

MODES = {
    "read": LocalRelayBuilderNip42Mode.READ,
    "both": LocalRelayBuilderNip42Mode.BOTH,
}
events: list[Any] = []


class Recorder(WritePolicy):
    async def admit_event(self, event: Event, socket_addr: str) -> WritePolicyResult:
        events.append(json.loads(event.as_json()))
        return WritePolicyResult.ACCEPT()


async def run(mode: str) -> None:
    uniffi_set_event_loop(asyncio.get_running_loop())
    # By default it takes 60 events a minute.
    limit = RateLimit(max_reqs=10**6, notes_per_minute=10**6)
    builder = LocalRelayBuilder().rate_limit(limit).write_policy(Recorder())
    if mode:
        builder = builder.nip42(LocalRelayBuilderNip42(mode=MODES[mode]))
    relay = builder.build()
    await relay.run()

    async def url() -> str:
        return str(await relay.url())

    async def sent_events() -> list[Any]:
        return events

    async def forget_events() -> None:
        events.clear()

    async def drop() -> None:
        drop_connections(int((await url()).rpartition(":")[2]))

    await serve_calls(
        {
            "url": url,
            "sent_events": sent_events,
            "forget_events": forget_events,
            "drop_connections": drop,
        }
    )


asyncio.run(run("".join(sys.argv[1:])))
# Rust's threads can call an interpreter that has ended, which kills the process.
os._exit(0)
