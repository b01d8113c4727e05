"""What is wrong with given values, in sentences, and what is left when they are put aside. It reads no environment.

A value is never printed: it may be a secret.
"""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ingester.settings.model import PREFIX, Settings

MAX_ROUNDS: Final = 10
"""How often the faulty values are put aside; the second time hardly ever finds more."""
_NAME: Final = re.compile(r"INGESTER_[A-Z0-9_]{1,80}")
_SERVICE_LINK: Final = re.compile(
    r"INGESTER(?:_[A-Z0-9]{1,40}){0,6}?_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]{1,40})?"
    r"|PORT_[0-9]{1,5}_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_LINK_URL: Final = re.compile(r"(?:tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The settings of those values that are sound, a sentence for each fault, and the names of the faulty values."""

    settings: Settings | None
    faults: tuple[str, ...]
    aside: frozenset[str]


def make(values: dict[str, Any]) -> Made:
    """Make them, whatever is wrong with some. `values` is used up."""
    faults: list[str] = []
    aside: set[str] = set()
    for _ in range(MAX_ROUNDS):
        try:
            settings = Settings(**values)
        except ValidationError as error:
            for fault in error.errors(include_url=False, include_context=False, include_input=False):
                faults.append(_sentence(fault))
                aside.add(_named(fault["loc"]))
                _put_aside(values, fault["loc"])
        else:
            faults += unsaid(settings.disagreements(), aside)
            return Made(settings=settings, faults=tuple(faults), aside=frozenset(aside))
    return Made(settings=None, faults=tuple(faults), aside=frozenset(aside))


def unsaid(sentences: Sequence[str], aside: Collection[str]) -> list[str]:
    """Those that name no setting whose value was put aside: one fault would be told as two."""
    return [sentence for sentence in sentences if set(aside).isdisjoint(_NAME.findall(sentence))]


def unknown_names(given: Mapping[str, str], known: Collection[str]) -> list[str]:
    """A sentence for each name that is no setting, and one for all that Kubernetes makes of a Service's name."""
    links = [name for name, value in given.items() if _is_service_link(name, value)]
    faults = [_unknown(name, known) for name in sorted(given.keys() - set(links))]
    if links:
        whose = (
            f"{min(links, key=len)} comes"
            if len(links) == 1
            else f"{min(links, key=len)} and {len(links) - 1} more come"
        )
        faults.append(
            f"{whose} from Kubernetes, which tells a pod of every Service so: set `enableServiceLinks: false` in the "
            "pod's spec"
        )
    return faults


def _is_service_link(name: str, value: str) -> bool:
    """Kubernetes' `{NAME}_SERVICE_HOST`, and Docker's `{NAME}_PORT=tcp://...`, of a Service named ingester..."""
    return bool(_SERVICE_LINK.fullmatch(name)) or (name.endswith("_PORT") and bool(_LINK_URL.match(value)))


def _unknown(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"{name} is not a setting: " + (f"did you mean {near[0]}?" if near else "remove it")


def _sentence(fault: ErrorDetails) -> str:
    """What pydantic says, in one sentence."""
    entry = next((f" (entry {step + 1})" for step in fault["loc"] if isinstance(step, int)), "")
    if fault["type"] == "extra_forbidden":
        return f"{_named(fault['loc'])} is not a setting: remove it from the file"
    return f"{_named(fault['loc'])}{entry}: {fault['msg'].removeprefix('Value error, ')}"


def _named(place: Sequence[int | str]) -> str:
    """The name of the setting at this place."""
    steps = [step.upper() for step in place if isinstance(step, str)]
    return PREFIX + "__".join(steps).replace("TEST__", "TEST_", 1)


def _put_aside(values: dict[str, Any], place: Sequence[int | str]) -> None:
    """Take the value at this place away; of a list that has a faulty entry, the whole list."""
    if place == ("env",):
        values["env"] = "development"  # nobody knows which was meant: nothing is asked for production's sake
        return
    inner: Any = values
    for step, following in zip(place, (*place[1:], 0), strict=True):
        if not isinstance(inner, dict):
            return
        if not isinstance(following, str) or not isinstance(inner.get(str(step)), dict):
            inner.pop(str(step), None)
            return
        inner = inner[str(step)]
