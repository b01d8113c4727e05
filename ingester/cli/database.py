"""`ingester migrate` and `ingester dsn`."""

import click

from ingester.cli.context import json_option, print_json, query, with_database


@click.command()
@json_option
@click.pass_context
def migrate(context: click.Context, *, as_json: bool) -> None:
    """Apply the migrations that the database lacks, and print their names.

    Several may run at once: one does the work. Not through pgbouncer in transaction mode: it needs its own session.
    """
    from ingester.store import migrate as migrations

    applied = query(context, migrations.migrate)
    if as_json:
        print_json({"applied": applied})
        return
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("The schema is up to date.")


@click.command()
@json_option
@click.pass_context
def dsn(context: click.Context, *, as_json: bool) -> None:
    """Print the URL of the database in use, password included, as psql takes it.

    That is INGESTER_DATABASE_URL or, where it is not set, the database that `ingester dev` runs in INGESTER_DEV_DIR.
    """
    url = with_database(context).database_url.get_secret_value()
    if as_json:
        print_json({"dsn": url})
    else:
        click.echo(url)
