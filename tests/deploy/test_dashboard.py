"""The Grafana dashboard: every expression parses and names what exists, and no metric is left out."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingester.telemetry.metrics import ALL
from tests.deploy.promql import faults, selectors
from tests.deploy.promtool import check, rules_of

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARD = json.loads((GRAFANA / "ingester.json").read_text())


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("panel", panels(), ids=[panel["title"] for panel in panels()])
def test_a_panel_names_what_exists(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert not list(faults(target["expr"]))
        labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        grouped = set(re.findall(r"\w+", "".join(re.findall(r"\bby \(([^)]*)\)", target["expr"]))))
        assert labels <= (grouped or {"instance"}), target["legendFormat"]


def test_promtool_takes_every_expression(tmp_path: Path) -> None:
    """Grafana's own variables stand for a time and a pattern."""
    plain = [one.replace("$__rate_interval", "5m").replace("$instance", ".*") for one in expressions()]
    assert not [one for one in plain if "$" in one]
    assert f"{len(plain)} rules found" in check("check", "rules", rules_of(plain, tmp_path / "rules.yml"))


def test_no_metric_is_left_out() -> None:
    shown = {re.sub(r"_(?:bucket|sum|count)$", "", one.metric) for text in expressions() for one in selectors(text)}
    assert {metric.name for metric in ALL} <= shown


def test_panels_have_ids_of_their_own_and_do_not_cover_each_other() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not taken & cells, panel["title"]
        taken |= cells


def test_what_grafana_is_given_at_start_is_there() -> None:
    """The data source that the compose file provisions, and where it mounts the dashboard."""
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/ingester.yml").read_text())["providers"]
    compose = yaml.safe_load((GRAFANA.parent / "compose.yaml").read_text())["services"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose
    assert f"./grafana/ingester.json:{provider['options']['path']}/ingester.json:ro" in compose["grafana"]["volumes"]
