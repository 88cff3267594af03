"""What of each request is settled before any of it is read."""

from collections.abc import Mapping
from typing import Any

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.utils.http import parse_header_parameters


class Utf8Request(WSGIRequest):
    """A request whose text is UTF-8, whatever it says.

    Django would take any encoding that Python knows. Some of them unpack, so that a
    short body fills the memory; some are none of text, and fail where nothing answers.
    """

    def _set_content_type_params(self, meta: Mapping[str, Any]) -> None:
        given = meta.get("CONTENT_TYPE", "")
        self.content_type, self.content_params = parse_header_parameters(given)


class Utf8Handler(WSGIHandler):
    """Django's handler, for such requests."""

    request_class = Utf8Request
