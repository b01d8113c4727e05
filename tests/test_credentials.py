"""Secrets in files: what is read, what is refused in one sentence each, and that no sentence quotes a secret."""

from pathlib import Path

import pytest

from ingester.settings import SettingsError, load
from ingester.settings.credentials import MAX_BYTES, read

KNOWN = {"INGESTER_DATABASE_URL", "INGESTER_S3__SECRET_ACCESS_KEY", "INGESTER_INBOUND_TOKEN"}


def test_one_file_is_one_setting(tmp_path: Path) -> None:
    (tmp_path / "database_url").write_bytes(b"postgresql://x\r\n")
    (tmp_path / "s3__secret_access_key").write_bytes(b" a b \n\n")
    # As Kubernetes mounts a secret.
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "inbound_token").write_bytes(b"token")
    (tmp_path / "inbound_token").symlink_to("..data/inbound_token")
    assert read(tmp_path, KNOWN) == (
        {
            "INGESTER_DATABASE_URL": "postgresql://x",
            "INGESTER_S3__SECRET_ACCESS_KEY": " a b \n",
            "INGESTER_INBOUND_TOKEN": "token",
        },
        [],
    )


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("DATABASE_URL", b"secret", "is named like no setting in lower case: remove or rename it"),
        ("colour", b"secret", "is named like no setting in lower case: remove or rename it"),
        ("database_url", b"", "is empty"),
        ("database_url", b"\n", "is empty"),
        ("database_url", b"secret\0", "holds a NUL"),
        ("database_url", b"secret\xff", "is not UTF-8"),
        ("database_url", b"s" * (MAX_BYTES + 1), "is larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_setting_is_refused(tmp_path: Path, name: str, data: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert read(tmp_path, KNOWN) == ({}, [f"The credential {tmp_path / name} {sentence}"])


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "database_url").mkdir()
    assert read(tmp_path, KNOWN)[1] == [f"The credential {tmp_path}/database_url cannot be read: Is a directory"]
    (fault,) = read(tmp_path / "none", KNOWN)[1]
    assert fault == f"The directory of credentials {tmp_path}/none cannot be read: No such file or directory"


def test_they_stand_between_the_environment_and_the_file(tmp_path: Path) -> None:
    """The directory of INGESTER_CREDENTIALS goes before systemd's."""
    config = tmp_path / "ingester.toml"
    config.write_text('database_url = "postgresql://toml"\ndrain_seconds = 7\n')
    for directory, host in (("ours", "ours"), ("systemd", "systemd")):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "database_url").write_text(f"postgresql://{host}")
    environ = {"INGESTER_ENV": "development", "INGESTER_CONFIG": str(config)}
    environ["CREDENTIALS_DIRECTORY"] = str(tmp_path / "systemd")

    def url() -> str:
        settings = load(environ)
        assert settings.drain_seconds == 7
        return settings.database_url.get_secret_value()

    assert url() == "postgresql://systemd"
    environ["INGESTER_CREDENTIALS"] = str(tmp_path / "ours")
    assert url() == "postgresql://ours"
    environ["INGESTER_DATABASE_URL"] = "postgresql://environment"
    assert url() == "postgresql://environment"
    (tmp_path / "ours" / "colour").write_text("red")
    with pytest.raises(SettingsError, match="colour is named like no setting"):
        load(environ)
