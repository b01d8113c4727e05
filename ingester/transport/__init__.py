"""Strangers' input becomes an Envelope; an Outcome becomes their reply. Transports do not know each other."""
