"""Secrets in files: a directory with one file for each setting, named like it in lower case (`database_url`,
`s3__secret_access_key`), as systemd's LoadCredential=, Kubernetes and Docker hand them over.

Who may read them is for those to say, whose modes differ (0400, 0644, 0444): it is not judged here.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from ingester.settings.model import PREFIX

MAX_BYTES: Final = 1 << 20
"""systemd's own limit for all credentials of a unit."""


def read(directory: Path, known: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """What the files say, by the names of variables, and a sentence for each fault. One final line end is left out.

    Names that begin with a dot are passed over: Kubernetes keeps its own there.
    """
    values: dict[str, str] = {}
    faults: list[str] = []
    try:
        files = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        return {}, [f"The directory of credentials {directory} cannot be read: {error.strerror}"]
    for path in files:
        name = PREFIX + path.name.upper()
        if name not in known or path.name != path.name.lower():
            faults.append(f"The credential {path} is named like no setting in lower case: remove or rename it")
            continue
        try:
            values[name] = _value(path)
        except OSError as error:
            faults.append(f"The credential {path} cannot be read: {error.strerror}")
        except ValueError as error:
            faults.append(f"The credential {path} {error}")
    return values, faults


def _value(path: Path) -> str:
    """Raises OSError where it cannot be read, ValueError (which goes on after the path) where it is no value."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError("is larger than 1 MiB")
    try:
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    if not text or "\0" in text:
        raise ValueError("is empty" if not text else "holds a NUL")
    return text
