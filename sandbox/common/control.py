"""Control APIs of the stand-ins under `/_sandbox/`: JSON, no credentials.

Access: see `sandbox.common.access`.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sandbox.common.access import denial_reason
from sandbox.common.faults import Fault, Faults
from sandbox.common.fields import BadField, Fields
from sandbox.common.html import form
from sandbox.common.http import Request, Response, json_response

logger = logging.getLogger(__name__)
PREFIX = "/_sandbox/"


class Refused(Exception):
    """A refused request; has a message and an HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Command(NamedTuple):
    """`function(target, fields, *ids)`, its known fields, a page's message after it.

    The ids are those in the path. A GET has its fields in the query.
    """

    function: Callable[..., Any]
    fields: tuple[str, ...] = ()
    message: str = ""
    ids: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the function; it appears in URLs."""
        return self.function.__name__

    def run(self, target: Any, fields: Fields) -> Any:
        """Return the result of the function. Raises Refused or BadField."""
        return self.function(target, fields, *self.ids)


Commands = Mapping[tuple[str, str], Command]


def match_command(commands: Commands, method: str, path: str) -> Command | None:
    """Return the command for a method and a path, with the ids in it, or None."""
    for (command_method, pattern), command in commands.items():
        match = re.fullmatch(pattern, path, re.ASCII)
        if match and method == command_method:
            return command._replace(ids=match.groups())
    return None


def handle(
    target: Any,
    commands: Commands,
    request: Request,
    run: Callable[[Command, Any, Fields], Any] = Command.run,
) -> Response:
    """Run the command that a request names on the target; never raises."""
    if denial := denial_reason(request):
        return _error(403, denial)
    try:
        return json_response(200, _respond(target, commands, request, run))
    except BadField as error:
        return _error(400, str(error))
    except Refused as error:
        return _error(error.status, str(error))
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return _error(500, "the sandbox failed; see its log")


def fault_commands(
    path: str, kind: type[Fault], faults: Callable[[Any], Faults[Any]]
) -> Commands:
    """Return the commands that list, add and clear the faults of a target."""

    def list_faults(target: Any, fields: Fields) -> Any:
        return {"data": faults(target).list()}

    def add_fault(target: Any, fields: Fields) -> Any:
        return faults(target).add(kind.read(fields)).to_dict()

    def clear_faults(target: Any, fields: Fields) -> Any:
        faults(target).clear()
        return list_faults(target, fields)

    return {
        ("GET", path): Command(list_faults),
        ("POST", path): Command(add_fault, tuple(kind.names())),
        ("DELETE", path): Command(clear_faults),
    }


def _respond(
    target: Any,
    commands: Commands,
    request: Request,
    run: Callable[[Command, Any, Fields], Any],
) -> Any:
    method = "GET" if request.method == "HEAD" else request.method
    command = match_command(commands, method, request.path.removeprefix(PREFIX))
    if command is None:
        raise Refused(404, f"no {request.method} {request.path}")
    is_get = method == "GET"
    values = form.read(request.query) if is_get else _read_object(request.body)
    return run(command, target, Fields(values, command.fields, form=is_get))


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise BadField(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadField("a JSON object is expected")
    return data


def _error(status: int, message: str) -> Response:
    return json_response(status, {"error": message})
