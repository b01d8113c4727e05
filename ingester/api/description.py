"""What OpenAPI says of the routes under /v1."""

from typing import Any, Final

from ingester.api.outbound import Noted, Outbound, Receipt, Registration
from ingester.web.openapi import Operation, Parameter, common
from ingester.web.problem import No

_ID: Final[dict[str, Any]] = {"type": "string", "format": "uuid"}


def operations() -> tuple[Operation, ...]:
    """The operations of the API."""
    return (
        Operation(
            method="POST",
            path="/v1/mailboxes/{id}/outbound",
            name="postOutbound",
            summary="Register a message before it is sent.",
            about="The answer holds all that makes replies find their conversation. "
            "The same `idempotency_key` gets the same answer.",
            security=("api_key",),
            parameters=(Parameter(name="id", place="path", about="The mailbox.", schema=_ID),),
            bodies={"application/json": Outbound},
            answers={
                201: (Registration, "Registered."),
                409: (No, "It contradicts what is there."),
                **common(400, 401, 404, 408, 413, 415, 422, 503),
            },
        ),
        Operation(
            method="POST",
            path="/v1/messages/{id}/sent",
            name="postSent",
            summary="Note what the provider made of a message's ids.",
            security=("api_key",),
            parameters=(Parameter(name="id", place="path", about="The message.", schema=_ID),),
            bodies={"application/json": Receipt},
            answers={200: (Noted, "Noted."), **common(400, 401, 404, 408, 413, 415, 422, 503)},
        ),
    )
