"""Exports as files: the parts of a finished one, one after another."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from relays.exceptions import ExportNotReady, UnknownExport
from relays.models import RelayExport, RelayExportPart, RelayExportQuerySet

#: A number that the database takes.
_ID = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class ExportFile:
    """A file to download, of a known size."""

    name: str
    size: int
    parts: Iterator[bytes]
    # Not application/gzip, which generators of API clients do not know.
    content_type: str = "application/octet-stream"


def get_export(*, relay_id: UUID, export_id: str) -> RelayExport:
    """Return an export of a relay. Raises UnknownExport."""
    export: RelayExport | None = None
    if _ID.fullmatch(export_id):
        export = list_exports(relay_id).filter(pk=export_id).first()
    if export is None:
        raise UnknownExport("This relay has no such export.")
    return export


def list_exports(relay_id: UUID) -> RelayExportQuerySet:
    """Return the exports of a relay, newest first."""
    return RelayExport.objects.filter(relay=relay_id).select_related("relay")


def latest_file(relay_id: UUID) -> ExportFile:
    """Return the file of a relay's newest finished export. Raises ExportNotReady."""
    export = list_exports(relay_id).done().first()
    if export is None:
        raise ExportNotReady("There is no finished export of this relay.")
    return open_file(export)


def open_file(export: RelayExport) -> ExportFile:
    """Return the file of a finished export. Raises ExportNotReady."""
    if export.state != RelayExport.State.DONE or export.finished_at is None:
        raise ExportNotReady(f"This export is {export.get_state_display()}.")
    name = f"{export.relay.subdomain}-{export.finished_at:%Y-%m-%d}.jsonl.gz"
    return ExportFile(name, export.size_bytes, _parts(export.pk))


def _parts(export_id: int) -> Iterator[bytes]:
    """Yield the parts, each by a query of its own: a download may take long."""
    parts = RelayExportPart.objects.filter(export=export_id)
    for number in range(parts.count()):
        yield bytes(parts.values_list("data", flat=True).get(number=number))
