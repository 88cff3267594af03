"""WSGI handler that decodes every request as UTF-8."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.utils.http import parse_header_parameters

# Few differ.
_parse = lru_cache(maxsize=32)(parse_header_parameters)


class Utf8Request(WSGIRequest):
    """Request that ignores the charset in Content-Type."""

    # Django decodes with any Python codec that the charset names. `zlib` and the like
    # would be a decompression bomb; codecs that are not for text raise an exception
    # outside of any error handling.
    def _set_content_type_params(self, meta: Mapping[str, Any]) -> None:
        self.content_type, params = _parse(meta.get("CONTENT_TYPE", ""))
        self.content_params = dict(params)


class Utf8Handler(WSGIHandler):
    request_class = Utf8Request
