"""Where raw mails lie: can one be written there, read again, and deleted?"""

from collections.abc import Sequence

from ingester.doctor import segments
from ingester.doctor.finding import Finding, Pen
from ingester.doctor.patient import Patient
from ingester.store.hosts import FILES
from ingester.store.objects import MissingExtra, ObjectMissing, ObjectsUnavailable, open_objects

FOLDER = "doctor"
"""No tenant's id: a sweep leaves alone what it finds there, and no mail ever lies there."""
_CONTENT = b"written by `ingester doctor`, which deletes it again"

_pen = Pen("blobs")


async def look(patient: Patient) -> Sequence[Finding]:
    """Wherever they lie, other hosts that keep segments are told of."""
    if patient.settings.blobs.startswith(FILES):
        return await segments.look(patient)
    others = await segments.look_at_hosts(patient)
    if patient.settings.blobs == "postgres":
        return [*others, _pen.ok("raw mails lie in Postgres")]
    return [*others, *(await _objects(patient))]


async def _objects(patient: Patient) -> Sequence[Finding]:
    """Write one small object, read it, delete it."""
    settings = patient.settings
    key = f"{FOLDER}/{patient.random_label}"
    done = "opened"
    try:
        objects = open_objects(settings.blobs, settings.s3)
        try:
            done = "written to"
            await objects.put(key, _CONTENT)
            done = "read from"
            same = await objects.get(key, max_bytes=1024) == _CONTENT
            done = "deleted from"
            await objects.delete(key)
        finally:
            await objects.close()
    except MissingExtra as error:
        return [_pen.fault(str(error), "Install the extra, or set INGESTER_BLOBS=postgres.")]
    except (ObjectsUnavailable, ObjectMissing) as error:
        return [
            _pen.fault(
                f"the object store of INGESTER_BLOBS cannot be {done} ({error})",
                "Look at the bucket, the account's rights to put, get and delete, and INGESTER_S3__ENDPOINT.",
            )
        ]
    if not same:
        return [_pen.fault("the object store gives back other bytes than it was given", "Use another store.")]
    return [_pen.ok("the object store takes, gives and deletes")]
