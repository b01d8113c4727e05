"""Erasing a tenant, or a person, from every table and every object; and the receipt that says what was done.

Nothing is written unless it is asked for. Either may be killed at any moment and begun again: what is done stays done.
"""

from ingester.erasure.person import erase_person
from ingester.erasure.receipt import Mention, Receipt
from ingester.erasure.tenant import erase_tenant

__all__ = ["Mention", "Receipt", "erase_person", "erase_tenant"]
