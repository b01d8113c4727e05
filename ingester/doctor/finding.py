"""What a check has found. A value: it looks at nothing, and prints nothing."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and will bite one day; or it could not be looked at."""
    FAULT = "fault"
    """Mail is lost, refused, deferred or misjudged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found. `what` is a sentence, `advice` another on what to do; what is in order needs none."""

    check: str
    level: Level
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Pen:
    """Writes the findings of one check."""

    check: str

    def ok(self, what: str) -> Finding:
        """It is as it should be."""
        return Finding(check=self.check, level=Level.OK, what=what)

    def warning(self, what: str, advice: str) -> Finding:
        """It works, for now."""
        return Finding(check=self.check, level=Level.WARNING, what=what, advice=advice)

    def fault(self, what: str, advice: str) -> Finding:
        """It does not work."""
        return Finding(check=self.check, level=Level.FAULT, what=what, advice=advice)
