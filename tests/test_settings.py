"""Settings: where values come from, and bad configurations, each refused with one clear sentence."""

import json
import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from ingester.settings import MIB, Listen, Owner, Settings, SettingsError, load

LONG = "x" * 32
DEVELOPMENT = {"INGESTER_ENV": "development"}


def faults(environ: dict[str, str], file: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(environ, file=file)
    return str(caught.value).split("\n")


def test_the_defaults_are_those_of_the_design_page() -> None:
    settings = load({})
    assert settings.env == "production"
    assert settings.max_message_bytes == 25 * MIB == 26_214_400
    assert settings.smtp.listen == (Listen(host="::", port=25),)
    assert [str(one) for one in settings.smtp.listen] == ["[::]:25"]
    assert settings.blobs == "postgres"
    assert settings.dev_dir == Path(".ingester")
    assert (settings.mime.max_parts, settings.mime.max_depth, settings.smtp.max_recipients) == (1000, 50, 1000)
    assert settings == Settings()


def test_nothing_of_ours_need_be_in_the_environment() -> None:
    assert load({"PATH": "/bin", "INGESTER_CORPORA": "/corpora", "INGESTER_WORKERS": ""}) == Settings()


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("127.0.0.1:2525", ["127.0.0.1:2525"]),
        ("127.0.0.1:2525, [::1]:2525", ["127.0.0.1:2525", "[::1]:2525"]),
        ("[::]:25,0.0.0.0:26", ["[::]:25", "0.0.0.0:26"]),
        ('["[::]:25", "mx.example.test:0"]', ["[::]:25", "mx.example.test:0"]),
        ("[]", []),
    ],
)
def test_lists_are_comma_separated_or_json(text: str, listen: list[str]) -> None:
    assert [str(one) for one in load({"INGESTER_SMTP__LISTEN": text}).smtp.listen] == listen


def test_command_line_goes_before_environment_before_file(tmp_path: Path) -> None:
    file = tmp_path / "ingester.toml"
    file.write_text(
        'workers = 2\ndrain_seconds = 3\n[smtp]\nhostname = "file"\nlisten = ["127.0.0.1:1"]\n[log]\nlevel = "debug"\n'
    )
    environ = {"INGESTER_WORKERS": "3", "INGESTER_SMTP__HOSTNAME": "environment"}
    settings = load(environ, file=file, workers=4, smtp__listen=["127.0.0.1:2"], dev_dir=None)
    assert (settings.workers, settings.drain_seconds, settings.smtp.hostname) == (4, 3, "environment")
    assert (str(settings.smtp.listen[0]), settings.log.level) == ("127.0.0.1:2", "debug")
    assert load({**environ, "INGESTER_CONFIG": str(file)}).workers == 3


def test_secrets_are_not_shown() -> None:
    environ = {
        "INGESTER_DATABASE_URL": "postgresql://u:hushhush@h/d",
        "INGESTER_INBOUND_TOKEN": "hushhush" * 4,
        "INGESTER_REPLY_TOKEN_SECRETS": "hushhush" * 4,
    }
    settings = load(environ)
    assert "hush" not in repr(settings) + str(settings) + json.dumps(settings.model_dump(mode="json"))
    assert settings.database_url.get_secret_value() == environ["INGESTER_DATABASE_URL"]


def test_the_old_name_of_the_token_secret_is_a_list_of_one() -> None:
    assert len(load({"OPENSEND_REPLY_TOKEN_SECRET": LONG + ",y"}).reply_token_secrets) == 1
    both = {"OPENSEND_REPLY_TOKEN_SECRET": LONG, "INGESTER_REPLY_TOKEN_SECRETS": f"{LONG}1,{LONG}2"}
    assert len(load(both).reply_token_secrets) == 2


def test_it_is_frozen_and_can_be_handed_to_a_process() -> None:
    settings = load({"INGESTER_SMTP__PROXY_NETWORKS": "10.0.0.1,2001:db8::/32"})
    assert settings.smtp.proxy_networks == ("10.0.0.1/32", "2001:db8::/32")
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(ValidationError):
        settings.workers = 2  # type: ignore[misc]


def test_the_process_environment_is_not_read_behind_our_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGESTER_WORKERS", "7")
    assert Settings().workers == load({}).workers == 1
    assert load().workers == 7


def test_unknown_test_names_are_let_through_in_development_only() -> None:
    environ = {"INGESTER_TEST_ANYTHING": "1", "INGESTER_TEST_FAULTS": "commit:kill@2"}
    assert load({**environ, **DEVELOPMENT}).test.faults == "commit:kill@2"
    assert faults(environ) == [
        "INGESTER_TEST_ANYTHING is refused in production: INGESTER_ENV=development allows it",
        "INGESTER_TEST_FAULTS is refused in production: INGESTER_ENV=development allows it",
    ]


NO_PORT = "must be host:port, with a port of at most 65535"
ARN = "arn:aws:sns:eu-west-1:123456789012:"
BAD: list[tuple[dict[str, str], str]] = [
    ({"INGESTER_DATABSE_URL": "x"}, "INGESTER_DATABSE_URL is not a setting: did you mean INGESTER_DATABASE_URL?"),
    ({"INGESTER_QUITE_ELSE": "x"}, "INGESTER_QUITE_ELSE is not a setting: remove it"),
    ({"INGESTER_SMTP__LISTN": "x"}, "INGESTER_SMTP__LISTN is not a setting: did you mean INGESTER_SMTP__LISTEN?"),
    ({"INGESTER_WORKERS__X": "1"}, "INGESTER_WORKERS__X is not a setting: did you mean INGESTER_WORKERS?"),
    ({"INGESTER_SMTP": "{}"}, "INGESTER_SMTP is not a setting: remove it"),
    ({"INGESTER_ENV": "staging"}, "INGESTER_ENV: Input should be 'development' or 'production'"),
    ({"INGESTER_WORKERS": "0"}, "INGESTER_WORKERS: Input should be greater than or equal to 1"),
    (
        {"INGESTER_WORKERS": "many"},
        "INGESTER_WORKERS: Input should be a valid integer, unable to parse string as an integer",
    ),
    ({"INGESTER_DRAIN_SECONDS": "nan"}, "INGESTER_DRAIN_SECONDS: Input should be a finite number"),
    ({"INGESTER_SMTP__IDLE_SECONDS": "inf"}, "INGESTER_SMTP__IDLE_SECONDS: Input should be a finite number"),
    (
        {"INGESTER_SMTP__LISTEN": "127.0.0.1:25,2525"},
        "INGESTER_SMTP__LISTEN (entry 2): must be host:port, with a port of at most 65535",
    ),
    (
        {"INGESTER_SMTP__LISTEN": "127.0.0.1:65536"},
        "INGESTER_SMTP__LISTEN (entry 1): must be host:port, with a port of at most 65535",
    ),
    (
        {"INGESTER_SMTP__LISTEN": "::1:25"},
        "INGESTER_SMTP__LISTEN (entry 1): must be host:port, with an IPv6 address in brackets",
    ),
    (
        {"INGESTER_SMTP__LISTEN": ":25"},
        "INGESTER_SMTP__LISTEN (entry 1): must be host:port; all addresses are 0.0.0.0:port or [::]:port",
    ),
    ({"INGESTER_SMTP__LISTEN": '["[::]:25",]'}, "INGESTER_SMTP__LISTEN: is neither a comma-separated nor a JSON list"),
    (
        {"INGESTER_SMTP__PROXY_NETWORKS": "10.0.0.0/33"},
        "INGESTER_SMTP__PROXY_NETWORKS (entry 1): must be an IP address or a network such as 192.0.2.0/24",
    ),
    (
        {"INGESTER_SMTP__TLS_CERT": "/a.pem"},
        "INGESTER_SMTP__TLS_CERT and INGESTER_SMTP__TLS_KEY go together: set both or neither",
    ),
    ({"INGESTER_SMTP__BARE_LF": "keep"}, "INGESTER_SMTP__BARE_LF: Input should be 'normalise' or 'refuse'"),
    (
        {"INGESTER_MAX_BYTES_IN_FLIGHT": str(2 * MIB)},
        "INGESTER_MAX_BYTES_IN_FLIGHT must hold at least one mail of INGESTER_MAX_MESSAGE_BYTES",
    ),
    (
        {"INGESTER_DATABASE_URL": "mysql://u:p@h/d"},
        "INGESTER_DATABASE_URL: must be like postgresql://user:password@host:5432/database",
    ),
    (
        {"INGESTER_REPLY_TOKEN_SECRETS": f"{LONG},short"},
        "INGESTER_REPLY_TOKEN_SECRETS (entry 2): needs at least 32 characters",
    ),
    ({"OPENSEND_REPLY_TOKEN_SECRET": "short"}, "INGESTER_REPLY_TOKEN_SECRETS (entry 1): needs at least 32 characters"),
    ({"INGESTER_INBOUND_TOKEN": "short"}, "INGESTER_INBOUND_TOKEN: needs at least 32 characters"),
    ({"INGESTER_HTTP__LISTEN": "[::]:80"}, "INGESTER_HTTP__LISTEN needs INGESTER_INBOUND_TOKEN in production: set it"),
    *(
        (
            {"INGESTER_BLOBS": value},
            "INGESTER_BLOBS: must be like file:///var/lib/ingester/segments, "
            "an absolute directory without % ? # and dots",
        )
        for value in ("file:", "file:/srv", "file://host/srv", "file:///srv/../x", "file:///srv//x", "file:///a%20b")
    ),
    (
        {"INGESTER_BLOBS": "file:///"},
        "INGESTER_BLOBS: must be like file:///var/lib/ingester/segments, not the root of all",
    ),
    *(
        (
            {"INGESTER_BLOBS": value},
            "INGESTER_BLOBS: must be `postgres`, or like file:///directory, s3://bucket/prefix, gs://bucket/prefix or "
            "az://container/prefix",
        )
        for value in (
            "disk",
            "s3:///x",
            "s3://key:secret@bucket",
            "s3://bucket?x=1",
            "http://bucket/",
            "s3://bucket/a//b",
            "s3://bucket/../a",
        )
    ),
    (
        {"INGESTER_LMTP__LISTEN": "unix:lmtp"},
        "INGESTER_LMTP__LISTEN (entry 1): must be unix: and an absolute path of at most 107 bytes",
    ),
    (
        {"INGESTER_LMTP__LISTEN": "24"},
        "INGESTER_LMTP__LISTEN (entry 1): must be host:port, with a port of at most 65535",
    ),
    ({"INGESTER_S3__ENDPOINT": "s3.test"}, "INGESTER_S3__ENDPOINT: must be like https://s3.example.org"),
    (
        {"INGESTER_SES__TOPICS": "mail"},
        f"INGESTER_SES__TOPICS (entry 1): must be like {ARN}name, or that and =tenant:SLUG",
    ),
    (
        {"INGESTER_SES__BUCKETS": "bucket/in"},
        "INGESTER_SES__BUCKETS (entry 1): must be like bucket/prefix=tenant:SLUG or bucket/prefix=example.com",
    ),
    (
        {"INGESTER_SES__BUCKETS": "b1b/in=tenant:A b"},
        "INGESTER_SES__BUCKETS (entry 1): belongs to tenant:SLUG or to a domain such as example.com",
    ),
    (
        {**DEVELOPMENT, "INGESTER_TEST_FAULTS": "commit:explode"},
        "INGESTER_TEST_FAULTS: must be a comma list of point:action[@n], see ingester/faults.py",
    ),
    ({"INGESTER_CONFIG": "/nowhere.toml"}, "/nowhere.toml cannot be read as a TOML file: No such file or directory"),
]


def test_the_places_of_doors_and_buckets_are_read() -> None:
    settings = load(
        {
            "INGESTER_LMTP__LISTEN": "unix:/run/ingester/lmtp.sock, [::1]:24",
            "INGESTER_SES__TOPICS": f"{ARN}in,{ARN}out=tenant:acme",
            "INGESTER_SES__BUCKETS": "mail/in/acme=tenant:acme,mail/in/globex/=Globex.TEST,whole=x.test",
        }
    )
    assert [str(one) for one in settings.lmtp.listen] == ["unix:/run/ingester/lmtp.sock", "[::1]:24"]
    assert [one.owner for one in settings.ses.topics] == [None, Owner(tenant="acme")]
    assert [(one.bucket, one.prefix, one.owner) for one in settings.ses.buckets] == [
        ("mail", "in/acme", Owner(tenant="acme")),
        ("mail", "in/globex/", Owner(domain="globex.test")),
        ("whole", "", Owner(domain="x.test")),
    ]


@pytest.mark.parametrize(
    ("environ", "sentence"), BAD, ids=lambda value: " ".join(value) if isinstance(value, dict) else ""
)
def test_a_bad_configuration_is_refused_with_one_sentence(environ: dict[str, str], sentence: str) -> None:
    assert faults(environ) == [sentence]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("workers = ", "cannot be read as a TOML file: Invalid value"),
        ("worker = 2", "INGESTER_WORKER is not a setting: remove it from the file"),
        ("[smtp]\nlistn = []", "INGESTER_SMTP__LISTN is not a setting: remove it from the file"),
        ("smtp = 5", "INGESTER_SMTP: Input should be a valid dictionary or instance of Smtp"),
        ('[test]\nfaults = "a:kill"', "INGESTER_TEST_FAULTS is refused in production"),
    ],
)
def test_a_bad_file_is_refused_with_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    found = faults({}, tmp_path / "bad.toml")
    assert len(found) == 1
    assert sentence in found[0]


def test_all_faults_are_told_at_once_and_no_value_with_them(tmp_path: Path) -> None:
    environ = {
        "INGESTER_WORKERS": "hushhush",
        "INGESTER_UNKNOWN": "hushhush",
        "INGESTER_INBOUND_TOKEN": "hushhush",
        "INGESTER_DATABASE_URL": "hushhush",
        "INGESTER_SMTP__LISTEN": "hushhush,[::]:25,hushhush",
        "INGESTER_SMTP__PROXY_NETWORKS": "hushhush",
        "INGESTER_TEST_FAULTS": "hushhush",
        "INGESTER_CONFIG": str(tmp_path),
        "INGESTER_MIME__MAX_PARTS": "-1",
    }
    found = faults(environ)
    assert len(found) == 11
    for name in environ.keys() - {"INGESTER_CONFIG"}:
        assert any(fault.startswith(name) for fault in found), name
    assert "hush" not in "\n".join(found)


def test_an_object_is_not_swept_while_its_mail_may_be_committed() -> None:
    with pytest.raises(SettingsError, match="INGESTER_STORE__ORPHAN_HOURS must be far more than"):
        load({"INGESTER_STORE__ORPHAN_HOURS": "1", "INGESTER_STORE__COMMIT_SECONDS": "900"}, env="development")
    load({"INGESTER_STORE__ORPHAN_HOURS": "1"}, env="development")
