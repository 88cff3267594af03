"""A webhook endpoint without a socket: what was delivered to it, and how it answers."""

import json
import threading


class Receiver:
    """Stands in for the HTTP of deliveries; answers with its statuses, then always.

    A status of 0 means that it cannot be reached.
    """

    def __init__(self):
        self.events = []
        self.statuses = []
        self.always = 200
        self.by_url = {}
        self._lock = threading.Lock()

    def __call__(self, url, body, headers):
        with self._lock:
            usual = self.by_url.get(url, self.always)
            status = self.statuses.pop(0) if self.statuses else usual
            if not status:
                raise ConnectionRefusedError
            self.events.append(json.loads(body))
        return status

    def names(self):
        """Return the name of the object in each event, in order of arrival."""
        return [event["data"]["object"].get("name") for event in self.events]

    def types(self):
        """Return the type of each event, in order of arrival."""
        return [event["type"] for event in self.events]
