"""The Kubernetes manifests: their schemas, and that every name, port, path, user and setting in them is one of ours."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ingester.cli import COMMANDS
from ingester.operators.routes import HEALTH, READY
from ingester.settings import PREFIX, Settings, load
from ingester.settings.reading import CREDENTIALS, SettingsError, _names
from ingester.supervisor.supervising import GRACE_SECONDS
from tests.deploy.dockerfile import stages
from tests.deploy.tools import tool

DEPLOY = Path(__file__).parents[2] / "deploy"
DIRECTORY = DEPLOY / "kubernetes"
IMAGE = stages(DEPLOY / "Dockerfile")[-1]
APART = {"kustomization.yaml", "monitor.yaml"}
"""Kinds that are not Kubernetes' own: their schemas are not at hand."""
OPTIONAL = {"kustomization.yaml", "monitor.yaml", "secret.example.yaml"}


def documents(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DIRECTORY / file).read_text()))


def of_kind(kind: str) -> list[dict[str, Any]]:
    found = [one for file in sorted(DIRECTORY.glob("*.yaml")) for one in documents(file.name)]
    return [one for one in found if one["kind"] == kind]


def the(kind: str) -> dict[str, Any]:
    (one,) = of_kind(kind)
    return one


def pods() -> list[dict[str, Any]]:
    return [the(kind)["spec"]["template"] for kind in ("Deployment", "Job")]


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (one,) = pod["spec"]["containers"]
    assert isinstance(one, dict)
    return one


def ports() -> dict[str, int]:
    """The daemon's, by name."""
    return {one["name"]: one["containerPort"] for one in container(pods()[0])["ports"]}


@pytest.mark.parametrize("file", sorted({file.name for file in DIRECTORY.glob("*.yaml")} - APART))
def test_kubernetes_takes_a_manifest(file: str) -> None:
    """The newest schemas that the validator brings along, with nothing that they do not know."""
    assert "passed" in tool("kubernetes-validate", "--strict", DIRECTORY / file)


def test_every_manifest_is_in_the_kustomization() -> None:
    (kustomization,) = documents("kustomization.yaml")
    assert set(kustomization["resources"]) == {file.name for file in DIRECTORY.glob("*.yaml")} - OPTIONAL
    (namespace,) = documents("namespace.yaml")
    assert kustomization["namespace"] == namespace["metadata"]["name"]


def test_the_settings_are_settings() -> None:
    """Names that the daemon knows, and values that it takes."""
    data = the("ConfigMap")["data"]
    assert set(data) - {CREDENTIALS} <= set(_names(Settings, PREFIX))
    plain = {name: value for name, value in data.items() if name != CREDENTIALS}
    settings = load(plain | {"INGESTER_INBOUND_TOKEN": "t" * 32})
    assert settings.env == "production"
    (listen,) = settings.http.listen
    assert listen.port == ports()["http"]


def test_the_credentials_are_settings_and_empty() -> None:
    secret, tls = of_kind("Secret")
    assert {PREFIX + name.upper() for name in secret["stringData"]} <= set(_names(Settings, PREFIX))
    assert set(tls["stringData"]) == {"tls.crt", "tls.key"}
    assert set(secret["stringData"].values()) | set(tls["stringData"].values()) == {""}


@pytest.mark.parametrize("pod", pods(), ids=["deployment", "job"])
def test_a_pod_may_do_nothing(pod: dict[str, Any]) -> None:
    """The profile `restricted`, no word with the cluster, no service links, and files that cannot be written."""
    spec, one = pod["spec"], container(pod)
    user, group = map(int, IMAGE.one("USER").split(":"))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]) == (user, group)
    assert spec["securityContext"]["fsGroup"] == group
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == the("ServiceAccount")["metadata"]["name"]
    assert one["resources"]["limits"]["memory"]


@pytest.mark.parametrize("pod", pods(), ids=["deployment", "job"])
def test_a_pod_finds_its_command_and_its_files(pod: dict[str, Any]) -> None:
    """The arguments are commands of ours, and settings that name files name those that are mounted."""
    one = container(pod)
    assert one["args"][0] in COMMANDS
    assert "command" not in one
    names = {source["configMapRef"]["name"] for source in one["envFrom"]}
    assert names == {the("ConfigMap")["metadata"]["name"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert mounts.keys() == volumes.keys()
    secrets = {secret["metadata"]["name"] for secret in of_kind("Secret")}
    assert {volumes[name]["secret"]["secretName"] for name in ("credentials", "tls")} == secrets
    data = the("ConfigMap")["data"]
    assert data[CREDENTIALS] == mounts["credentials"]
    for name, file in (("CERT", "tls.crt"), ("KEY", "tls.key")):
        assert data[f"INGESTER_SMTP__TLS_{name}"] == f"{mounts['tls']}/{file}"
    assert volumes["tmp"]["emptyDir"]["medium"] == "Memory"


def test_ports_and_probes_are_those_of_the_image() -> None:
    exposed = set(map(int, IMAGE.one("EXPOSE").split()))
    assert set(ports().values()) == exposed
    given = load({name: value for name, value in IMAGE.environment.items() if name.startswith(PREFIX)})
    assert ports()["smtp"] == given.smtp.listen[0].port
    assert ports()["metrics"] == given.metrics.listen[0].port
    one = container(pods()[0])
    paths = {name: one[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert paths["startup"] == paths["liveness"] == {"path": HEALTH, "port": "metrics"}
    assert paths["readiness"] == {"path": READY, "port": "metrics"}


def test_a_pod_has_time_to_drain() -> None:
    pause = int(container(pods()[0])["lifecycle"]["preStop"]["exec"]["command"][1])
    needed = pause + load({}).drain_seconds + GRACE_SECONDS
    assert pods()[0]["spec"]["terminationGracePeriodSeconds"] > needed


def test_services_reach_the_pods_and_keep_the_client() -> None:
    labels = pods()[0]["metadata"]["labels"]
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind("Service")}
    for spec in services.values():
        assert spec["selector"].items() <= labels.items()
        assert {port["targetPort"] for port in spec["ports"]} <= set(ports())
    assert services["ingester-smtp"]["externalTrafficPolicy"] == "Local"
    assert services["ingester-smtp"]["type"] == "LoadBalancer"
    assert [port["port"] for port in services["ingester-smtp"]["ports"]] == [25]
    migrating = pods()[1]["metadata"]["labels"]
    assert not services["ingester-smtp"]["selector"].items() <= migrating.items()


def test_several_pods_on_several_nodes() -> None:
    spec, labels = the("Deployment")["spec"], pods()[0]["metadata"]["labels"]
    assert spec["replicas"] >= 2
    assert spec["selector"]["matchLabels"] == labels
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    (apart,) = pods()[0]["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert apart["podAffinityTerm"]["labelSelector"]["matchLabels"] == labels
    budget = the("PodDisruptionBudget")["spec"]
    assert budget["selector"]["matchLabels"] == labels
    assert budget["maxUnavailable"] < spec["replicas"]


def test_the_network_policy_knows_the_ports() -> None:
    spec = the("NetworkPolicy")["spec"]
    for pod in pods():
        assert spec["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert {port["port"] for rule in spec["ingress"] for port in rule["ports"]} == set(ports())
    out = {port["port"] for rule in spec["egress"] for port in rule["ports"]}
    assert {53, 443, 5432} <= out


def test_the_monitor_finds_the_metrics() -> None:
    """The label that names the job gives `ingester`, which the rules know."""
    monitor = the("ServiceMonitor")["spec"]
    found = [one for one in of_kind("Service") if _has(one, monitor["selector"]["matchLabels"])]
    assert [one["metadata"]["name"] for one in found] == ["ingester-metrics"]
    assert {one["port"] for one in monitor["endpoints"]} == {port["name"] for port in found[0]["spec"]["ports"]}
    assert found[0]["metadata"]["labels"][monitor["jobLabel"]] == "ingester"


def _has(one: dict[str, Any], labels: dict[str, str]) -> bool:
    return bool(labels.items() <= one["metadata"]["labels"].items())


def test_what_service_links_would_inject_is_refused() -> None:
    """Why they are off: Kubernetes sets these for a Service named `ingester` or `ingester-smtp` in the namespace."""
    injected = {"INGESTER_PORT": "tcp://10.0.0.1:25", "INGESTER_SMTP_SERVICE_HOST": "10.0.0.1"}
    with pytest.raises(SettingsError) as refused:
        load(injected)
    assert "set `enableServiceLinks: false`" in str(refused.value)
