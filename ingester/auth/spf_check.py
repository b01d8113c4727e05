"""check_host (RFC 7208, 4): SPF records evaluated on a Lookup, within bounds that hold whatever the records say.

It knows nothing of the mail but the envelope. Its results are values: what ends a check early is caught in here.
"""

from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeVar

from ingester.auth.dns_name import canonical
from ingester.auth.lookup import Answer, Lookup, Status
from ingester.auth.report import Result
from ingester.auth.spf_macro import MacroText, parse_text
from ingester.auth.spf_record import MAX_TERMS, Directive, Fault, Mechanism, Record, is_spf, parse

MAX_VOIDS = 2
"""Answers that there is no such record (RFC 7208, 4.6.4)."""
MAX_EXCHANGES = 10
"""Hosts of one `mx`; more are a permerror (RFC 7208, 4.6.4)."""
MAX_POINTERS = 10
"""Reverse names that are looked at; the others are ignored (RFC 7208, 4.6.4)."""
MAX_QUERIES = 40
"""Of one check. The RFC's own limits allow 111, which would leave nothing of the mail's budget to DKIM and DMARC."""
MAX_BYTES = 16_384
"""Of all records of one check: parsing them is what costs CPU, and ten includes of usual records are a third of it."""
MAX_EXPLANATION = 1000
"""Bytes of an explanation before its macros are expanded; a longer one is none."""

Item = TypeVar("Item")


class Arrival(NamedTuple):
    """What check_host gets: the client, and the sender as `local` and `domain` (RFC 7208, 4.1)."""

    address: IPv4Address | IPv6Address
    helo: str
    local: str
    domain: str
    receiver: str
    now: datetime


class Outcome(NamedTuple):
    """The result and the term behind it. `explanation` is that of the record of `owner`, where the term stands."""

    result: Result
    mechanism: str | None = None
    explanation: MacroText | None = None
    owner: str = ""
    problem: str | None = None


class _Ended(Exception):
    """An error or a limit: it ends the check, however deep the include that it stands in (RFC 7208, 5.2 and 6.1)."""

    def __init__(self, result: Result, problem: str) -> None:
        super().__init__(problem)
        self.outcome = Outcome(result=result, problem=problem)


class Check:
    """One check, and what it has spent so far."""

    def __init__(self, lookup: Lookup, arrival: Arrival, max_queries: int) -> None:
        self._lookup = lookup
        self._arrival = arrival
        self._version = arrival.address.version
        self._number = int(arrival.address)
        self._queries_left = max_queries
        self._bytes_left = MAX_BYTES
        self._terms = 0
        self._voids = 0
        self._explaining = False
        self._pointers: tuple[str, ...] | None = None
        self.cited: set[str] = set()
        """The letters of all macros that had a say."""

    async def run(self) -> Outcome:
        """The result for the sender's domain."""
        try:
            return await self._check_host(self._arrival.domain)
        except _Ended as ended:
            return ended.outcome

    async def explain(self, outcome: Outcome) -> str | None:
        """What the owner says of a fail, in ASCII (RFC 7208, 6.2). If anything is wrong with it, he says nothing."""
        if outcome.result is not Result.FAIL or outcome.explanation is None:
            return None
        self._explaining = True
        try:
            name = await self._target(outcome.explanation, outcome.owner)
            if name is None:
                return None
            self._spend_query(outcome.owner)
            answer = await self._lookup.txt(name)
            return await self._explanation(answer.records, outcome.owner)
        except _Ended:
            return None

    async def _explanation(self, records: tuple[bytes, ...], owner: str) -> str | None:
        if len(records) != 1 or len(records[0]) > MAX_EXPLANATION or not records[0].isascii():
            return None
        text = parse_text(records[0].decode("ascii"), explanation=True)
        if text is None:
            return None
        return text.expand(await self._values(text, owner)).encode("ascii", "replace").decode("ascii")

    async def _check_host(self, domain: str) -> Outcome:
        self._spend_query(domain)
        answer = await self._lookup.txt(domain)
        if answer.status is not Status.FOUND and not answer.absent:
            raise _no_answer(answer, domain)
        records = [record for record in answer.records if is_spf(record)]
        if not records:
            return Outcome(result=Result.NONE)
        if len(records) > 1:
            raise _Ended(Result.PERMERROR, f"{domain} has {len(records)} SPF records.")  # RFC 7208, 4.5
        self._bytes_left -= len(records[0])
        if self._bytes_left < 0:
            raise _Ended(
                Result.PERMERROR, f"The records have more than {MAX_BYTES} bytes, the last is that of {domain}."
            )
        record = parse(records[0])
        if isinstance(record, Fault):
            raise _Ended(Result.PERMERROR, _told(record, domain))
        return await self._evaluate(record, domain)

    async def _evaluate(self, record: Record, domain: str) -> Outcome:
        for directive in record.directives:
            network = directive.network  # by far the most terms are one, and need nobody to wait for
            if network.holds(self._version, self._number) if network else await self._matches(directive, domain):
                return Outcome(
                    result=directive.result, mechanism=directive.term, explanation=record.explanation, owner=domain
                )
        if record.redirect is None:
            return Outcome(result=Result.NEUTRAL, mechanism="default")  # RFC 7208, 4.7
        self._spend_term(domain, "redirect")
        target = await self._target(record.redirect, domain)
        return await self._checked(target, domain, "redirect")

    async def _checked(self, target: str | None, domain: str, term: str) -> Outcome:
        """check_host for an `include` or `redirect`: none is a permerror there (RFC 7208, 5.2 and 6.1)."""
        outcome = await self._check_host(target) if target and "." in target else Outcome(result=Result.NONE)
        if outcome.result is Result.NONE:
            raise _Ended(
                Result.PERMERROR, f"{term} of {domain} leads to {target or 'a bad name'}, which has no record."
            )
        return outcome

    async def _matches(self, directive: Directive, domain: str) -> bool:
        """Whether a directive that is no network matches."""
        mechanism = directive.mechanism
        if mechanism is Mechanism.ALL:
            return True
        self._spend_term(domain, directive.term)
        target = domain if directive.target is None else await self._target(directive.target, domain)
        if directive.target is not None and directive.target.letters & {"l", "s"} and not self._arrival.local.isascii():
            return False  # RFC 8616, 4
        if mechanism is Mechanism.INCLUDE:
            return (await self._checked(target, domain, directive.term)).result is Result.PASS
        if target is None:
            return False  # RFC 7208, 4.8 leaves it open; 4.3 treats such a name as one that does not exist
        if mechanism is Mechanism.EXISTS:
            self._spend_query(domain)
            return bool(self._records(await self._lookup.a(target), target))
        if mechanism is Mechanism.A:
            return await self._matches_host(target, directive)
        if mechanism is Mechanism.MX:
            return await self._matches_exchange(target, directive)
        return await self._matches_pointer(target)

    async def _matches_host(self, host: str, directive: Directive) -> bool:
        """Whether an address of the host, cut to the prefix, is the client's (RFC 7208, 5.3)."""
        shift = 32 - directive.prefix4 if self._version == 4 else 128 - directive.prefix6
        return self._number >> shift in {int(address) >> shift for address in await self._addresses(host)}

    async def _matches_exchange(self, target: str, directive: Directive) -> bool:
        """RFC 7208, 5.4. A null MX (RFC 7505) names no host."""
        self._spend_query(target)
        exchanges = self._records(await self._lookup.mx(target), target)
        if len(exchanges) > MAX_EXCHANGES:
            raise _Ended(Result.PERMERROR, f"{target} has more than {MAX_EXCHANGES} MX records.")
        for exchange in exchanges:
            if canonical(exchange.host) and await self._matches_host(exchange.host, directive):
                return True
        return False

    async def _matches_pointer(self, target: str) -> bool:
        """RFC 7208, 5.5. Names outside the target cannot match, so their addresses are not asked for."""
        names = await self._pointer_names()
        inside = [name for name in names if _belongs(name, target)]
        return await self._first_validated(inside) is not None

    async def _pointer_names(self) -> tuple[str, ...]:
        """The client's reverse names. An error is as good as none (RFC 7208, 5.5)."""
        if self._pointers is None:
            self._spend_query(self._arrival.domain)
            answer = await self._lookup.ptr(self._arrival.address)
            if answer.absent:
                self._count_void("the client's address")
            self._pointers = tuple(name for name in answer.records[:MAX_POINTERS] if canonical(name))
        return self._pointers

    async def _first_validated(self, names: list[str]) -> str | None:
        """The first of the names that points back to the client. One with an error is passed over (RFC 7208, 5.5)."""
        for name in names:
            self._spend_query(name)
            answer = await (self._lookup.a(name) if self._version == 4 else self._lookup.aaaa(name))
            if answer.absent:
                self._count_void(name)
            if self._arrival.address in answer.records:
                return name
        return None

    async def _addresses(self, host: str) -> tuple[IPv4Address | IPv6Address, ...]:
        self._spend_query(host)
        if self._version == 4:
            return self._records(await self._lookup.a(host), host)
        return self._records(await self._lookup.aaaa(host), host)

    def _records(self, answer: Answer[Item], name: str) -> tuple[Item, ...]:
        """The records of an answer, which may be none; no answer ends the check (RFC 7208, 5)."""
        if answer.status is Status.FOUND:
            return answer.records
        if not answer.absent:
            raise _no_answer(answer, name)
        self._count_void(name)
        return ()

    async def _target(self, text: MacroText, domain: str) -> str | None:
        """The target-name (RFC 7208, 4.8), or None when it cannot be asked for."""
        return canonical(text.target_name(await self._values(text, domain) if text.letters else {}))

    async def _values(self, text: MacroText, domain: str) -> dict[str, str]:
        """What the macro letters stand for (RFC 7208, 7.2); `p` is looked up only where the text has it."""
        arrival, address = self._arrival, self._arrival.address
        self.cited |= text.letters
        return {
            "s": f"{arrival.local}@{arrival.domain}",
            "l": arrival.local,
            "o": arrival.domain,
            "d": domain,
            "i": str(address) if self._version == 4 else ".".join(f"{self._number:032X}"),
            "p": await self._validated_name(domain) if "p" in text.letters else "",
            "v": "in-addr" if self._version == 4 else "ip6",
            "h": arrival.helo,
            "c": str(address),
            "r": arrival.receiver or "unknown",
            "t": str(int(arrival.now.timestamp())),
        }

    async def _validated_name(self, domain: str) -> str:
        """`p` (RFC 7208, 7.3): preferably the domain itself, then a name in it. Asking counts as a term (4.6.4)."""
        if self._pointers is None:
            self._spend_term(domain, "%{p}")
        names = await self._pointer_names()
        wanted = sorted(names, key=lambda name: (name.lower() != domain, not _belongs(name, domain)))
        return await self._first_validated(wanted) or "unknown"

    def _spend_term(self, domain: str, term: str) -> None:
        self._terms += 1
        if self._terms > MAX_TERMS and not self._explaining:
            raise _Ended(Result.PERMERROR, f"More than {MAX_TERMS} terms ask DNS, the last is {term} of {domain}.")

    def _spend_query(self, name: str) -> None:
        """A permerror, since the records will cost as much the next time (RFC 7208, 11.1 asks for such limits)."""
        self._queries_left -= 1
        if self._queries_left < 0:
            raise _Ended(Result.PERMERROR, f"The records cost too many DNS queries, the last is for {name}.")

    def _count_void(self, name: str) -> None:
        self._voids += 1
        if self._voids > MAX_VOIDS and not self._explaining:
            raise _Ended(Result.PERMERROR, f"More than {MAX_VOIDS} names lack a record, the last is {name}.")


def _belongs(name: str, domain: str) -> bool:
    lower = name.lower().removesuffix(".")
    return lower == domain or lower.endswith("." + domain)


def _no_answer(answer: Answer[Item], name: str) -> _Ended:
    """No answer may pass (RFC 7208, 2.6.6); one that cannot be read is the owner's fault (2.6.7)."""
    if answer.status is Status.UNAVAILABLE:
        return _Ended(Result.TEMPERROR, f"DNS gives no answer for {name} now.")
    return _Ended(Result.PERMERROR, f"What DNS answers for {name} cannot be read.")


def _told(fault: Fault, domain: str) -> str:
    if not fault.place:
        return f"The SPF record of {domain} {fault.what}."
    return f"The SPF record of {domain}, term {fault.place}, {fault.term[:100]} {fault.what}."
