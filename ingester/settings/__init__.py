"""Settings: one frozen value, read once."""

from ingester.settings.groups import S3, Auth, Dns, Http, Lmtp, Providers, Ses, Smtp, Spam, Store, Test
from ingester.settings.kinds import MIB, Listen, Owner, Source, Topic, UnixListen
from ingester.settings.model import PREFIX, Settings
from ingester.settings.reading import SettingsError, load

__all__ = [
    "MIB",
    "PREFIX",
    "S3",
    "Auth",
    "Dns",
    "Http",
    "Listen",
    "Lmtp",
    "Owner",
    "Providers",
    "Ses",
    "Settings",
    "SettingsError",
    "Smtp",
    "Source",
    "Spam",
    "Store",
    "Test",
    "Topic",
    "UnixListen",
    "load",
]
