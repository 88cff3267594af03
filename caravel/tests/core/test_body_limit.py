"""Bodies that are too large, or that contain files."""

from io import BytesIO

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import RequestFactory

from caravel.core.web.body_limit import BodyLimitMiddleware

MAX_BODY = 1024 * 1024


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/admin/login/", "/pay/x", "/api/tenants", "/"])
def test_large_upload_is_refused_before_any_of_it_is_read(client, path):
    body = BytesIO(bytes(60 * MAX_BODY))

    response = client.generic(
        "POST",
        path,
        b"",
        content_type="multipart/form-data; boundary=x",
        CONTENT_LENGTH=str(60 * MAX_BODY),
        **{"wsgi.input": body},
    )

    assert (response.status_code, response.json()["code"]) == (413, "body-too-large")
    assert body.tell() == 0


@pytest.mark.parametrize("length", ["", "x", "-1", "0", str(MAX_BODY)])
def test_request_within_the_limit_is_passed_on(length):
    request = RequestFactory().post("/", CONTENT_LENGTH=length)
    response = HttpResponse()

    assert BodyLimitMiddleware(lambda passed: response)(request) is response


def test_file_in_a_form_is_skipped_and_the_fields_are_read():
    file = SimpleUploadedFile("x", b"x" * 100_000)

    request = RequestFactory().post("/", {"name": "ann", "file": file})

    assert request.POST.dict() == {"name": "ann"}
    assert not request.FILES
