from datetime import datetime
from typing import IO, Any, NamedTuple

class Message(NamedTuple):
    type: str
    data: Any
    time: datetime
    name: str | None
    colour: str | None

class Printer:
    prefix: bool
    width: int
    def __init__(
        self, output: IO[str] = ..., *, colour: bool = ..., prefix: bool = ...
    ) -> None: ...
    def write(self, message: Message) -> None: ...
