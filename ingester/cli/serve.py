"""`ingester serve`: the daemon."""

import click

from ingester.cli.context import Fail, settings_of
from ingester.settings import Settings

_LISTEN = "INGESTER_SMTP__LISTEN, INGESTER_LMTP__LISTEN or INGESTER_HTTP__LISTEN"


@click.command()
@click.option("--migrate", "do_migrate", is_flag=True, help="Run pending migrations first.")
@click.pass_context
def serve(context: click.Context, *, do_migrate: bool) -> None:
    """Receive mail until SIGTERM.

    Migrations are checked and not run; the daemon starts while the database is away and answers 451 until it is back.
    """
    from ingester.supervisor import Supervisor, bind_all, run, serve_one
    from ingester.telemetry import configure

    settings = settings_of(context)
    configure(settings)
    check_certificate(settings)
    check_nameservers(settings)
    check_objects(settings)
    _ready(settings, do_migrate=do_migrate)
    try:
        if settings.workers > 1:
            status = Supervisor(settings).run()
        else:
            sockets = bind_all(settings, reuse_port=False)
            status = run(lambda: serve_one(settings, sockets))
    except OSError as error:
        raise Fail(f"Cannot listen: {error}. Change {_LISTEN}.") from error
    context.exit(status)


def check_certificate(settings: Settings) -> None:
    """Fail on a certificate that cannot be used: later, each worker would only die of it."""
    import time

    from ingester.transport.tls import Certificate, CertificateError

    cert, key = settings.smtp.tls_cert, settings.smtp.tls_key
    if cert is None or key is None:
        return
    try:
        Certificate(cert=cert, key=key, clock=time.monotonic)
    except CertificateError as error:
        raise Fail(f"STARTTLS: {error}. Change INGESTER_SMTP__TLS_CERT and INGESTER_SMTP__TLS_KEY.") from error


def check_nameservers(settings: Settings) -> None:
    """Fail where there is no name server to ask: every mail would be a temperror."""
    from ingester.app import resolver
    from ingester.auth.dns_servers import NoNameserver

    try:
        resolver(settings)
    except NoNameserver as error:
        raise Fail(f"DNS: {error}") from error


def check_objects(settings: Settings) -> None:
    """Fail where objects can never be had. A bucket that is away now is no reason not to start: mail is deferred."""
    from ingester.store.objects import MissingExtra, ObjectsUnavailable, open_objects, require_extra

    try:
        if settings.ses.buckets:
            require_extra()
        if settings.blobs != "postgres":
            open_objects(settings.blobs, settings.s3)
    except MissingExtra as error:
        raise Fail(f"INGESTER_BLOBS and INGESTER_SES__BUCKETS: {error}") from error
    except ObjectsUnavailable as error:
        raise Fail(f"INGESTER_BLOBS cannot be used: it lacks an account or a key ({error})") from error


def _ready(settings: Settings, *, do_migrate: bool) -> None:
    """Bring the schema up to date or say that it is not. A database that is away is no reason not to start."""
    import asyncio

    import structlog

    from ingester.app import apply_schema, check_schema
    from ingester.store.db import classify

    log = structlog.get_logger(__name__)
    if not settings.database_url.get_secret_value():
        raise Fail("INGESTER_DATABASE_URL is not set: give the URL of a Postgres 15 to 18, or try `ingester dev`.")
    if settings.env == "production" and not settings.reply_token_secrets:
        raise Fail("INGESTER_REPLY_TOKEN_SECRETS is not set: production needs a secret of at least 32 characters.")
    for name in settings.not_used_yet:
        log.warning("setting not used yet", name=name)
    try:
        if do_migrate:
            log.info("migrated", applied=asyncio.run(apply_schema(settings)))
        pending = asyncio.run(check_schema(settings))
    except Exception as error:
        if classify(error) is None:
            raise
        log.warning("the database is away, mail is deferred until it is back", error=type(error).__name__)
        return
    if pending:
        names = ", ".join(pending)
        raise Fail(f"The database lacks migrations ({names}): run `ingester migrate` or `serve --migrate`.")
