"""All settings as one frozen value. What disagrees is said here; where values come from is `reading`'s."""

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ingester.settings.groups import (
    S3,
    Auth,
    Dns,
    Http,
    Lmtp,
    Log,
    Metrics,
    Mime,
    Providers,
    Retention,
    Ses,
    Smtp,
    Spam,
    Store,
    Test,
    Traces,
)
from ingester.settings.kinds import MIB, Blobs, Secret, Secrets, Url

PREFIX: Final = "INGESTER_"


class Settings(BaseSettings):
    """Everything that can be set, validated. Made by `load`; made directly it knows arguments and defaults alone."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        enable_decoding=False,
    )

    env: Literal["development", "production"] = Field("production", description="`development` or `production`")
    database_url: Url = Field(SecretStr(""), description="the Postgres, 15 to 18")
    database_direct_url: Url = Field(
        SecretStr(""), description="the same Postgres without the pooler between, where the other URL names one"
    )
    workers: int = Field(1, ge=1, le=64, description="processes that receive, behind one port")
    max_message_bytes: int = Field(25 * MIB, ge=1024, description="size of a mail")
    max_bytes_in_flight: int = Field(
        256 * MIB,
        ge=MIB,
        description="bytes of mails being received or stored, per worker; beyond it new mails are deferred",
    )
    drain_seconds: float = Field(30, gt=0, description="how long a stopping daemon waits for mails in transfer")
    watchdog_seconds: float = Field(
        60, ge=0, description="how long a worker may be without a sign of life until it is replaced; 0 is for ever"
    )
    dev_dir: Path = Field(Path(".ingester"), description="where `ingester dev` keeps its database")
    blobs: Blobs = Field(
        "postgres",
        description="where the raw bytes live: `postgres`, or like `file:///directory` (of this host alone), "
        "`s3://bucket/prefix`, `gs://…`, `az://…`",
    )
    inbound_token: Secret | None = Field(
        None, description="what providers show to hand in mail by HTTP, at least 32 characters"
    )
    reply_token_secrets: Secrets = Field(
        (), description="secrets of reply tokens, at least 32 characters each; the first signs, all verify"
    )
    smtp: Smtp = Smtp()
    lmtp: Lmtp = Lmtp()
    http: Http = Http()
    providers: Providers = Providers()
    ses: Ses = Ses()
    s3: S3 = S3()
    metrics: Metrics = Metrics()
    traces: Traces = Traces()
    dns: Dns = Dns()
    auth: Auth = Auth()
    spam: Spam = Spam()
    mime: Mime = Mime()
    store: Store = Store()
    retention: Retention = Retention()
    log: Log = Log()
    test: Test = Test()

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        """None but the arguments: `load` reads the others, so that it can report their faults together."""
        return (sources["init_settings"],)

    def disagreements(self) -> list[str]:
        """What is wrong between settings that are each well-formed, one sentence each."""
        faults: list[str] = []
        if self.env == "production" and self.http.listen and self.inbound_token is None:
            faults.append("INGESTER_HTTP__LISTEN needs INGESTER_INBOUND_TOKEN in production: set it")
        if (self.smtp.tls_cert is None) != (self.smtp.tls_key is None):
            faults.append("INGESTER_SMTP__TLS_CERT and INGESTER_SMTP__TLS_KEY go together: set both or neither")
        if self.max_bytes_in_flight < self.max_message_bytes:
            faults.append("INGESTER_MAX_BYTES_IN_FLIGHT must hold at least one mail of INGESTER_MAX_MESSAGE_BYTES")
        if self.ses.buckets and self.max_bytes_in_flight < self.ses.max_message_bytes:
            faults.append("INGESTER_MAX_BYTES_IN_FLIGHT must hold at least one mail of INGESTER_SES__MAX_MESSAGE_BYTES")
        if self.store.orphan_hours * 3600 < 10 * self.store.commit_seconds:
            faults.append(
                "INGESTER_STORE__ORPHAN_HOURS must be far more than INGESTER_STORE__COMMIT_SECONDS: "
                "an object is older than its mail"
            )
        return faults

    @property
    def token_secrets(self) -> tuple[bytes, ...]:
        """The secrets of reply tokens as keys: the first signs, all verify."""
        return tuple(one.get_secret_value().encode() for one in self.reply_token_secrets)
