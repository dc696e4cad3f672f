"""What is refused instead of answered: size, rate, denials; how to check it is known to `smw.security`."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, ClassVar

from smw._kernel.process import after_fork
from smw._kernel.signals import RequestBlocked
from smw.errors import AuditUnavailable, Denied
from smw.web.exchange import Exchange, Policy, Proceed, Reply
from smw.web.problem import problem
from smw.web.source import PolicySource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smw._kernel.signals import Bus
    from smw.runtime import Runtime
    from smw.security.client import TrustedProxies
    from smw.security.limit import Limiter, Rate

__all__ = ["Security", "SecuritySource"]

_NAME = "security"


class SecuritySource(PolicySource):
    """Makes the security policy."""

    name: ClassVar[str] = _NAME
    rank: ClassVar[int] = 20
    takes: ClassVar[Mapping[str, str]] = dict.fromkeys(("rate_limit", "trusted_proxies", "max_body_bytes"), "security")

    def __init__(self, profile: str | None = None, overrides: Mapping[str, Any] | None = None) -> None:
        super().__init__(profile, overrides)
        given = self.overrides.get("security", {})
        if given.get("rate_limit") is not None:
            from smw.security.limit import parse_rate

            parse_rate(given["rate_limit"])

    def bind(self, runtime: Runtime) -> Policy:
        """Return the policy."""
        from smw.security.client import TrustedProxies
        from smw.security.limit import Limiter, parse_rate
        from smw.settings import SecuritySettings

        told = self.effective(runtime.settings, SecuritySettings)
        limiter = Limiter(runtime.host.clock)
        after_fork(limiter.after_fork)
        return Security(
            TrustedProxies(told.trusted_proxies) if told.trusted_proxies else None,
            limiter,
            runtime.host.bus,
            rate=None if told.rate_limit is None else parse_rate(told.rate_limit),
            max_body_bytes=told.max_body_bytes,
        )


class Security(Policy):
    """Size cap, then client address, then limit, then the application; its denials become answers.

    Args:
        proxies: Tell the client from those who speak for it; None where nobody does.
        limiter: Counts by client.
        bus: Hears of every refusal.
        rate: How often a client may come; None is no limit.
        max_body_bytes: Largest request body.
    """

    def __init__(
        self, proxies: TrustedProxies | None, limiter: Limiter, bus: Bus, *, rate: Rate | None, max_body_bytes: int
    ) -> None:
        from smw.security.client import TrustedProxies, network_key

        self._proxies = proxies
        self._peer = functools.lru_cache(maxsize=4096)(lambda peer: TrustedProxies().client(peer, ()))
        self._limiter = limiter
        self._limit_key = functools.lru_cache(maxsize=4096)(network_key)
        self._bus = bus
        self._rate = rate
        self._max_body_bytes = max_body_bytes

    async def around(self, exchange: Exchange, proceed: Proceed) -> Reply | None:
        """Refuse, or let the application answer within its bounds."""
        declared = exchange.header("content-length")
        if declared is not None and self._too_large(declared):
            return self._refuse_body()
        if exchange.body_limit is None or exchange.body_limit > self._max_body_bytes:
            exchange.body_limit = self._max_body_bytes
        if self._proxies is None:
            exchange.client = self._peer(exchange.peer)
        else:
            exchange.client = self._proxies.client(exchange.peer, exchange.raw_fields)
        if self._rate is not None:
            decision = self._limiter.hit(self._limit_key(exchange.client), self._rate)
            if not decision.allowed:
                wait = str(max(1, math.ceil(decision.retry_after_s)))
                return self._refuse(429, "rate_limited", "too many requests", ("retry-after", wait))
        exchange.refuses = self
        try:
            reply = await proceed()
        except Exception as error:
            refusal = self.refusal(exchange, error)
            if refusal is None:
                raise
            return refusal
        if exchange.over_limit and not exchange.status:
            return self._refuse_body()
        return reply

    def refusal(self, exchange: Exchange, error: Exception) -> Reply | None:
        """Return the answer to an exception of the application, or None where it is to go on."""
        if exchange.status:
            return None
        if exchange.over_limit:
            return self._refuse_body()
        if isinstance(error, Denied):
            return self._refuse(403, "denied", "a compliance control does not permit this request")
        if isinstance(error, AuditUnavailable):
            return self._refuse(503, "audit_unavailable", "the audit log cannot record this request")
        return None

    def _too_large(self, declared: str) -> bool:
        # What is no number is the server's to refuse; the body is counted in any case.
        if not declared.isascii() or not declared.isdecimal():
            return False
        return len(declared) > 18 or int(declared) > self._max_body_bytes

    def _refuse_body(self) -> Reply:
        return self._refuse(413, "body_too_large", "the request body is too large")

    def _refuse(self, status: int, reason: str, detail: str, *headers: tuple[str, str]) -> Reply:
        self._bus.send(RequestBlocked(_NAME, reason))
        return problem(status, detail, code=f"SMW-W{status}", headers=headers)
