"""WSGI handler that decodes every request as UTF-8."""

from collections.abc import Mapping
from typing import Any

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.utils.http import parse_header_parameters


class Utf8Request(WSGIRequest):
    """Request that ignores the charset in Content-Type."""

    # Django decodes with any Python codec that the charset names. `zlib` and the like
    # would be a decompression bomb; codecs that are not for text raise an exception
    # outside of any error handling.
    def _set_content_type_params(self, meta: Mapping[str, Any]) -> None:
        content_type = meta.get("CONTENT_TYPE", "")
        self.content_type, self.content_params = parse_header_parameters(content_type)


class Utf8Handler(WSGIHandler):
    request_class = Utf8Request
