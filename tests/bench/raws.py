"""Where the daemon of a run keeps the raw bytes: in Postgres, in segments, or in an S3 server that the run starts."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from ingester.settings import S3
from tests import swift

LOCAL = ("postgres", "segments")
KINDS = (*LOCAL, "s3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The settings of a daemon that writes there, and what who reads there must know."""

    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    s3: S3 = field(default_factory=S3)


@contextmanager
def place(kind: str, directory: Path) -> Iterator[Place]:
    """One of KINDS; segments lie below `directory`. What is there is gone afterwards."""
    match kind:
        case "postgres":
            yield Place()
        case "segments":
            with tempfile.TemporaryDirectory(dir=directory, prefix="segments-") as segments:
                yield Place(settings={"INGESTER_BLOBS": Path(segments).as_uri()})
        case "s3":
            with swift.running() as server:
                bucket = server.make_bucket()
                yield Place(settings={**server.settings, "INGESTER_BLOBS": f"s3://{bucket}"}, s3=server.s3)
        case _:
            raise ValueError(f"raw bytes go into one of {', '.join(KINDS)}, not into {kind}")
