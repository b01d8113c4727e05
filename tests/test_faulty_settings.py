"""What is left of settings of which some are faulty, so that all faults can be told at once."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingester.settings import Settings, SettingsError, load
from ingester.settings.faulty import unknown_names, unsaid
from ingester.settings.model import PREFIX
from ingester.settings.reading import _names

KNOWN = sorted(_names(Settings, PREFIX))


def refused(environ: dict[str, str], file: Path | None = None) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load(environ, file=file)
    return caught.value


def test_faulty_values_are_put_aside_and_the_others_stay() -> None:
    error = refused(
        {
            "INGESTER_WORKERS": "0",
            "INGESTER_SMTP__LISTEN": "127.0.0.1:25,x",
            "INGESTER_SMTP__HOSTNAME": "mx.acme.test",
            "INGESTER_LMTP__LISTEN": "24",
            "INGESTER_STORE__BATCH": "4",
        }
    )
    assert error.rest is not None
    assert (error.rest.workers, error.rest.smtp.hostname, error.rest.store.batch) == (1, "mx.acme.test", 4)
    assert error.rest.smtp.listen == Settings().smtp.listen
    assert error.aside == {"INGESTER_WORKERS", "INGESTER_SMTP__LISTEN", "INGESTER_LMTP__LISTEN"}
    assert len(error.faults) == 3


def test_values_that_disagree_are_told_beside_values_that_are_faulty() -> None:
    error = refused({"INGESTER_WORKERS": "0", "INGESTER_HTTP__LISTEN": "127.0.0.1:80"})
    assert [one.partition(" ")[0] for one in error.faults] == ["INGESTER_WORKERS:", "INGESTER_HTTP__LISTEN"]
    error = refused({"INGESTER_INBOUND_TOKEN": "short", "INGESTER_HTTP__LISTEN": "127.0.0.1:80"})
    assert error.faults == ("INGESTER_INBOUND_TOKEN: needs at least 32 characters",)


def test_an_environment_that_is_none_is_not_taken_for_production() -> None:
    error = refused({"INGESTER_ENV": "prod", "INGESTER_HTTP__LISTEN": "127.0.0.1:80"})
    assert error.rest is not None
    assert error.rest.env == "development"
    assert len(error.faults) == 1


def test_of_a_file_that_cannot_be_read_nothing_is_left() -> None:
    assert refused({}, Path("/nowhere.toml")).rest is None


def test_groups_and_lists_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("workers = 3\nsmtp = 5\n[http]\nlisten = ['nowhere']\nidle_seconds = 7\n")
    error = refused({}, file)
    assert error.rest is not None
    assert (error.rest.workers, error.rest.http.listen, error.rest.http.idle_seconds) == (3, (), 7)
    assert error.aside == {"INGESTER_SMTP", "INGESTER_HTTP__LISTEN"}


def test_what_was_put_aside_is_not_complained_of_again() -> None:
    sentences = ["INGESTER_A and INGESTER_B: disagree", "INGESTER_C__D is absent"]
    assert unsaid(sentences, {"INGESTER_B"}) == [sentences[1]]
    assert unsaid(sentences, {"INGESTER_C"}) == sentences
    assert unsaid(sentences, ()) == sentences


@pytest.mark.parametrize(
    ("given_", "faults"),
    [
        ({"INGESTER_SERVICE_HOST": "10.0.0.1"}, 1),
        ({"INGESTER_SERVICE_PORT_SMTP_TLS": "25"}, 1),
        ({"INGESTER_WEB_UI_PORT_8080_TCP_ADDR": "10.0.0.1", "INGESTER_PORT": "tcp://10.0.0.1:25"}, 1),
        ({"INGESTER_DB_PORT": "udp://10.0.0.1:53"}, 1),
        ({"INGESTER_PORT": "25"}, 0),
        ({"INGESTER_SERVICE": "x"}, 0),
        ({"INGESTER_PORT_25": "x"}, 0),
    ],
)
def test_what_kubernetes_makes_of_a_services_name(given_: dict[str, str], faults: int) -> None:
    said = unknown_names(given_, KNOWN)
    assert sum("enableServiceLinks: false" in one for one in said) == faults
    assert len(said) == 1


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    environ=st.dictionaries(
        st.sampled_from(KNOWN) | st.from_regex(r"INGESTER_[A-Z_]{1,20}", fullmatch=True),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40),
        max_size=8,
    )
)
def test_no_settings_are_too_odd(environ: dict[str, str]) -> None:
    """Any environment is usable, or refused with sentences and a rest to go on with."""
    environ = {
        name: value for name, value in environ.items() if name not in ("INGESTER_CONFIG", "INGESTER_CREDENTIALS")
    }
    refusal = None
    try:
        load(environ)
    except SettingsError as error:
        refusal = error
    assert refusal is None or (refusal.faults and refusal.rest)
