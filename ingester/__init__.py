"""ingester: inbound mail becomes matched or unmatched rows in Postgres before it is answered yes."""

__version__ = "0.1.0"
