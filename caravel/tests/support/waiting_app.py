"""A WSGI application that says when a request began, and ends it when told to.

Two named pipes, of which the environment has the names.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "caravel.settings")


def application(
    environ: dict[str, Any], start_response: Callable[..., object]
) -> Iterable[bytes]:
    Path(os.environ["BEGUN"]).write_text(environ["PATH_INFO"])
    with Path(os.environ["ANSWER"]).open("rb", buffering=0) as pipe:
        answer = pipe.read(100)
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
