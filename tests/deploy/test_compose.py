"""The compose file: its schema, and that every name, port, path, user and setting in it is one of ours."""

import re
from pathlib import Path
from typing import Any

import yaml

from ingester.cli import COMMANDS
from ingester.settings import PREFIX, Settings, load
from ingester.settings.reading import CREDENTIALS, _names
from ingester.supervisor.supervising import GRACE_SECONDS
from tests.deploy.dockerfile import stages
from tests.deploy.tools import tool

DEPLOY = Path(__file__).parents[2] / "deploy"
FILE = DEPLOY / "compose.yaml"
IMAGE = stages(DEPLOY / "Dockerfile")[-1]
READ: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = READ["services"]
OURS = ("ingester", "migrate")


def test_compose_takes_the_file() -> None:
    """The specification's own schema, as check-jsonschema brings it along."""
    assert "ok" in tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE)


def test_the_build_finds_its_files() -> None:
    for name in OURS:
        build = SERVICES[name]["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
        assert (DEPLOY / build["context"] / ".dockerignore").is_file()


def test_files_that_are_mounted_are_there() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), f"{name}: {source}"
            else:
                assert source in READ["volumes"], f"{name}: {source}"


def test_commands_and_settings_are_ours() -> None:
    known = set(_names(Settings, PREFIX)) | {CREDENTIALS}
    for name in OURS:
        assert SERVICES[name]["command"][0] in COMMANDS
        assert set(SERVICES[name]["environment"]) <= known
    values = {name: _default(value) for name, value in SERVICES["ingester"]["environment"].items()}
    values.pop(CREDENTIALS)
    settings = load(values | {"INGESTER_INBOUND_TOKEN": "t" * 32})
    assert settings.env == "production"
    assert settings.http.listen[0].port == 8025


def _default(value: str) -> str:
    """`${NAME:-default}` where nobody has set NAME; the names are those of settings too."""
    named = re.fullmatch(r"\$\{(\w+):-([^}]*)\}", value)
    if named is None:
        return value
    assert named[1] in set(_names(Settings, PREFIX))
    return named[2]


def test_ports_are_those_of_the_image() -> None:
    exposed = set(map(int, IMAGE.one("EXPOSE").split()))
    published = {words.rpartition(":")[0]: int(words.rpartition(":")[2]) for words in SERVICES["ingester"]["ports"]}
    assert set(published.values()) <= exposed
    assert (
        published["25"]
        == load({"INGESTER_SMTP__LISTEN": IMAGE.environment["INGESTER_SMTP__LISTEN"]}).smtp.listen[0].port
    )
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"][0]
    (found,) = scraped["dns_sd_configs"]
    assert found["names"] == ["ingester"]
    assert found["port"] in exposed


def test_secrets_are_settings_and_files() -> None:
    """They lie beside the compose file, which git does not see, and nothing in the environment is a secret."""
    known = {name.removeprefix(PREFIX).lower() for name in _names(Settings, PREFIX)}
    for name in OURS:
        assert set(SERVICES[name]["secrets"]) <= known
        assert SERVICES[name]["environment"][CREDENTIALS] == "/run/secrets"
    assert SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/postgres_password"
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", ())}
    assert used == set(READ["secrets"])
    assert {one["file"] for one in READ["secrets"].values()} == {f"./secrets/{name}" for name in used}
    ignored = (DEPLOY.parent / ".gitignore").read_text().split("\n")
    assert "deploy/secrets/" in ignored


def test_ours_may_do_nothing() -> None:
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["tmpfs"] == ["/tmp"]


def test_the_daemon_waits_for_the_schema_and_has_time_to_drain() -> None:
    assert SERVICES["ingester"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert "healthcheck" in SERVICES["postgres"]
    seconds = int(SERVICES["ingester"]["stop_grace_period"].removesuffix("s"))
    assert seconds > load({}).drain_seconds + GRACE_SECONDS


def test_the_spam_filter_listens_where_it_is_asked() -> None:
    text = (DEPLOY / "rspamd" / "worker-normal.inc").read_text()
    port = re.search(r'^bind_socket = "\*:(\d+)";$', text, re.MULTILINE)
    assert port is not None
    assert f"http://rspamd:{port[1]}/checkv2" in (DEPLOY / "containers.md").read_text()
    assert load({"INGESTER_SPAM__URL": f"http://rspamd:{port[1]}/checkv2"}).spam.url


def test_profiles() -> None:
    """Everything that is not needed to receive mail is asked for by name."""
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert {name for name, wanted in profiles.items() if not wanted} == {"ingester", "migrate", "postgres"}
    assert profiles["rspamd"] == ["spam"]
    assert profiles["prometheus"] == profiles["grafana"] == ["metrics"]
