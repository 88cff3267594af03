"""Files of the pages (styles, scripts, the icon) under `/_pages/`."""

from importlib.resources import files

from sandbox.common.html.responses import answer
from sandbox.common.http import Response

PREFIX = "/_pages/"
TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def file(name: str, *packages: str) -> Response | None:
    """Return the file in `assets` of one of the packages, or of this one, or None."""
    for package in (*packages, "sandbox.common.html"):
        directory = files(package) / "assets"
        if name in {entry.name for entry in directory.iterdir()}:
            type = TYPES[name.rpartition(".")[2]]
            return answer(200, (directory / name).read_bytes(), type)
    return None
