"""What one request holds of the worker's bytes in flight, from the first byte of its body to the end of its mail."""

from ingester.transport.limits import Flight


class Load:
    """`shed` is set when its bytes must go: the newest goes first where all together are too many."""

    __slots__ = ("_ticket", "shed")

    def __init__(self, flight: Flight) -> None:
        self.shed = False
        self._ticket = flight.open(self._drop)

    def hold(self, held: int) -> bool:
        """It holds so many bytes now. False when they are too many."""
        if not self.shed:
            self._ticket.grow(held)
        return not self.shed

    def settle(self) -> None:
        """It is a mail now, which is not shed any more."""
        self._ticket.settle()

    def close(self) -> None:
        """The bytes are gone. Harmless when done twice."""
        self._ticket.close()

    def _drop(self) -> None:
        self.shed = True
