"""A WSGI application that says when a request began, and ends it when told to.

For that it has two named pipes, of which the environment has the names. To a request
for `/large` it responds at once, with more than the server buffers.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "caravel.settings")

#: waitress buffers 16 MiB.
LARGE = 48 * 2**20


def application(
    environ: dict[str, Any], start_response: Callable[..., object]
) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/large":
        start_response("200 OK", [("Content-Length", str(LARGE))])
        return (bytes(2**20) for _ in range(LARGE // 2**20))
    Path(os.environ["BEGUN"]).write_text(environ["PATH_INFO"])
    with Path(os.environ["ANSWER"]).open("rb", buffering=0) as pipe:
        answer = pipe.read(100)
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
