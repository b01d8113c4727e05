"""Settings: one frozen value, read once."""

from ingester.settings.groups import S3, Auth, Dns, Http, Lmtp, Providers, Ses, Smtp, Spam, Store, Test, Traces
from ingester.settings.kinds import MIB, Listen, Owner, Source, Topic, UnixListen
from ingester.settings.model import PREFIX, Settings
from ingester.settings.reading import SettingsError, load, service
from ingester.settings.service import Service

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
    "Service",
    "Ses",
    "Settings",
    "SettingsError",
    "Smtp",
    "Source",
    "Spam",
    "Store",
    "Test",
    "Topic",
    "Traces",
    "UnixListen",
    "load",
    "service",
]
