"""Requests that are refused before they reach the application, and the response.

One thread of a process parses what all clients send, so 16 kilobytes for which a
pattern of waitress's takes quadratic time would stop the process for seconds.
"""

import json
import re

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask
from waitress.utilities import BadRequest, Error

#: Characters of a URL's path and query: what is served here has less than 1,000, and
#: each line of the log is searched for secrets.
MAX_URL = 1_500
_CODES = {413: "body-too-large", 414: "url-too-long", 431: "headers-too-large"}
# Of a line that is not like this, waitress's own pattern tries each part again.
_FIRST_LINE = re.compile(rb"[^ \r\n]+ [^ \r\n]+ HTTP/1\.[01][ \t]*\r\n")
# Its pattern for headers tries each space of a value as the last one. A folded line
# would be added to them; RFC 9112, section 5.2, lets a server refuse it.
_EXPENSIVE_HEADER = re.compile(rb"[ \t]{32}|\r\n[ \t]")
#: Backslashes in cookies; ours have none. Python before 3.11.10 and 3.12.6 reads all
#: that follows each of them, in every request: CVE-2024-7592.
_MAX_ESCAPES = 100


class UrlTooLong(Error):
    code = 414
    reason = "URI Too Long"


class Parser(HTTPRequestParser):
    """Parser that refuses what is expensive to parse, or can be read in two ways."""

    completed: bool
    error: Error | None = None

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        is_parsed = self.headers_finished and not (self.empty or self.error)
        if is_parsed and len(self.request_uri) > MAX_URL:
            self.error = UrlTooLong("")
            self.completed = True
        if self.chunked and not self.completed:
            # What is between the chunks is read again from its start with each byte.
            framing = self.body_bytes_received - len(self.body_rcv)
            if framing > self.adj.max_request_header_size:
                self.error = BadRequest("The chunks are too small.")
                self.completed = True
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        if not _FIRST_LINE.match(header_plus):
            raise ParsingError("The first line is not HTTP's.")
        if _EXPENSIVE_HEADER.search(header_plus):
            raise ParsingError("A header has too many spaces, or several lines.")
        try:
            super().parse_header(header_plus)
        except ValueError as exc:
            raise ParsingError("The request is malformed.") from exc
        if self.headers.get("COOKIE", "").count("\\") > _MAX_ESCAPES:
            raise ParsingError("The cookies have too many escapes.")
        # A proxy may find another end of the body (RFC 9112, section 6.1).
        is_ambiguous = self.chunked and "CONTENT_LENGTH" in self.headers
        if is_ambiguous or "TRANSFER_ENCODING" in self.headers:
            raise ParsingError("The length of the body is ambiguous.")


class Refusal(ErrorTask):
    """A response to a request that is too large or not HTTP, in the API's envelope."""

    def execute(self) -> None:
        error = self.request.error
        code = _CODES.get(error.code, error.reason.lower().replace(" ", "-"))
        body = json.dumps({"error": f"{error.reason}.", "code": code}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)

    def set_close_on_finish(self) -> None:
        self.channel.is_refused = True
        if ("Connection", "close") not in self.response_headers:
            self.response_headers.append(("Connection", "close"))
