"""The alerts: promtool judges them, each fires and ends in a test, and what they name exists in the code."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.pages import anchors
from tests.deploy.promql import faults, selectors
from tests.deploy.promtool import check, promtool, rules_of

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
CASES = sorted(Path(__file__).parent.glob("rules_*test.yml"))
SEVERITIES = {"critical", "warning"}


def rules() -> list[dict[str, Any]]:
    read = yaml.safe_load(RULES.read_text())
    return [rule for group in read["groups"] for rule in group["rules"]]


def names() -> list[str]:
    return [rule["alert"] for rule in rules()]


def test_promtool_takes_the_rules() -> None:
    assert f"{len(rules())} rules found" in check("check", "rules", RULES)


def test_promtool_takes_the_configuration() -> None:
    """It looks for the rules beside it."""
    assert "1 rule files found" in check("check", "config", ROOT / "deploy" / "prometheus" / "prometheus.yml")


@pytest.mark.thorough
def test_every_alert_fires_and_ends() -> None:
    """promtool runs the cases, each of which is silent, fires and is silent again."""
    assert check("test", "rules", *CASES).count("SUCCESS") == len(CASES)
    fired: dict[str, list[bool]] = defaultdict(list)
    for case in (case for file in CASES for case in yaml.safe_load(file.read_text())["tests"]):
        seen = [(one["alertname"], bool(one["exp_alerts"])) for one in case["alert_rule_test"]]
        (alert,) = {name for name, _ in seen}
        fires = [fired_now for _, fired_now in seen]
        assert fires[0] is fires[-1] is False, case["name"]
        assert True in fires, case["name"]
        fired[alert] += fires
    assert set(fired) == set(names())


def test_promtool_sees_a_rule_that_does_not_fire(tmp_path: Path) -> None:
    """The cases are no use if they pass with a rule that is broken."""
    broken = RULES.read_text().replace("ingester_ready == 0", "ingester_ready == 7")
    (tmp_path / "rules.yml").write_text(broken)
    cases = yaml.safe_load((Path(__file__).parent / "rules_test.yml").read_text())
    cases["rule_files"] = ["rules.yml"]
    cases["tests"] = [case for case in cases["tests"] if case["name"] == "IngesterNotReady"]
    (tmp_path / "cases.yml").write_text(yaml.safe_dump(cases))
    done = promtool("test", "rules", tmp_path / "cases.yml")
    assert done.returncode != 0
    assert "IngesterNotReady" in done.stderr + done.stdout


@pytest.mark.parametrize("rule", rules(), ids=names())
def test_an_alert_names_what_exists(rule: dict[str, Any]) -> None:
    assert not list(faults(rule["expr"]))
    assert list(selectors(rule["expr"]))
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor in anchors(ROOT / page)


def test_no_alert_is_there_twice() -> None:
    assert len(names()) == len(set(names()))


def test_names_that_do_not_exist_are_seen(tmp_path: Path) -> None:
    """The check itself: each of these is one fault."""
    for expression in (
        "ingester_letters > 1",
        'rate(ingester_mails_total{outcome="lost"}[5m])',
        'rate(ingester_mails_total{outcome=~"dead|lost"}[5m])',
        'ingester_connections{port="25"}',
        "sum by (tenant) (ingester_connections)",
        "rate(ingester_acceptance_seconds[5m])",
        "ingester_dead_letters_bucket",
    ):
        assert len(list(faults(expression))) == 1, expression
    assert promtool("check", "rules", rules_of(["sum(("], tmp_path / "rules.yml")).returncode != 0
