"""Requests whose Content-Type names another charset than UTF-8."""

import zlib

import pytest
from django.test import RequestFactory
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

from caravel.core.web.handler import Utf8Request

ENCODINGS = ["zlib", "bz2", "hex", "rot13", "idna", "undefined", "utf-16", "nonsense"]


def request(encoding: str, body: bytes) -> Request:
    factory, path = RequestFactory(), "/?name=%C3%A9"
    environ = factory.post(path, body, content_type="application/json").environ
    environ["CONTENT_TYPE"] = f"application/json; charset={encoding}"
    return Request(Utf8Request(environ), parsers=[JSONParser()])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_query_and_body_are_decoded_as_utf_8_despite_charset(encoding):
    parsed = request(encoding, b'{"name": "\xc3\xa9"}')

    assert parsed.query_params["name"] == "\xe9"
    assert parsed.data == {"name": "\xe9"}


def test_parameters_of_a_content_type_belong_to_one_request():
    environ = RequestFactory().get("/", CONTENT_TYPE="a/b; charset=utf-8").environ
    changed, other = Utf8Request(environ), Utf8Request(environ)

    assert changed.content_params
    changed.content_params.clear()

    assert other.content_params == {"charset": "utf-8"}
    assert Utf8Request(environ).content_params == {"charset": "utf-8"}


def test_compressed_body_is_not_decompressed():
    packed = zlib.compress(b'{"name": "' + b"x" * 1_000_000 + b'"}')

    with pytest.raises(ParseError):
        dict(request("zlib", packed).data)
