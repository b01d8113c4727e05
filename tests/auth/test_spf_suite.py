"""The public test suite of RFC 7208: every case, DNS timeouts included."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingester.auth.spf import check_mail_from
from tests.zones import ZoneLookup

CASES = 203
SUITE = "spf-rfc7208/rfc7208-tests.yml"


@pytest.fixture(scope="module")
def scenarios(corpora: Path) -> list[dict[str, Any]]:
    """The file's \\x escapes are octets of the TXT records, not characters."""
    return list(yaml.safe_load_all((corpora / SUITE).read_text(encoding="ascii")))


async def test_every_case_of_the_suite(scenarios: list[dict[str, Any]]) -> None:
    wrong = []
    cases = [(scenario, name) for scenario in scenarios for name in scenario["tests"]]
    for scenario, name in cases:
        case = scenario["tests"][name]
        lookup = ZoneLookup(octets(scenario["zonedata"]))
        spf = await check_mail_from(
            lookup,
            ip=case["host"],
            helo=case["helo"],
            mail_from=case["mailfrom"],
            receiver="receiver.example",
            now=datetime(2026, 1, 1, tzinfo=UTC),
        )
        allowed = case["result"] if isinstance(case["result"], list) else [case["result"]]
        if spf.result not in allowed or ("explanation" in case and spf.explanation != explanation(case)):
            wrong.append((name, allowed, case.get("explanation"), spf))
    assert wrong == []
    assert len(cases) == CASES


def explanation(case: dict[str, Any]) -> str | None:
    """`DEFAULT` stands for what the receiver says where the owner says nothing."""
    return None if case["explanation"] == "DEFAULT" else str(case["explanation"])


def octets(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: octets(value) for key, value in data.items()}
    if isinstance(data, list):
        return [octets(value) for value in data]
    return data.encode("latin-1") if isinstance(data, str) and not data.isascii() else data
