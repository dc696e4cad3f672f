"""The security part of a runtime: ties settings to audit log, catalogue, controls and limiter; it holds no rule."""

from __future__ import annotations

import asyncio
import functools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smw._kernel.chain import advise
from smw._kernel.facts import Fact
from smw._kernel.host import Host
from smw._kernel.process import after_fork
from smw._kernel.told import plainly
from smw.errors import ConfigError
from smw.security.client import TrustedProxies
from smw.security.compliance.catalogue import CLASSES, load
from smw.security.decorators import AuditLog, RequireCompliance
from smw.security.gate import ENTRIES, Gate
from smw.security.limit import Limiter, parse_rate
from smw.security.plan import Plan
from smw.security.recorder import Entry, Recorder
from smw.security.report import Tally
from smw.security.trail.canonical import Digests
from smw.security.trail.log import Trail
from smw.settings import SecuritySettings, build

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from smw._kernel.call import Call, Target
    from smw._kernel.chain import Proceed
    from smw.security.compliance.catalogue import Catalogue
    from smw.security.decorators import F, Mode
    from smw.security.ports import AuditStore
    from smw.security.report import Report
    from smw.security.trail.note import Signer

    Around = Callable[[Call, Proceed], Awaitable[Any]]

__all__ = ["Security"]

_log = logging.getLogger("smw.security")


class Security:
    """Audit log, compliance controls and what the web adapter needs to refuse requests.

    Args:
        settings: `SecuritySettings`, or a mapping of settings.
        host: What the runtime shares; None stands alone, with the profile development.
        options: Settings by name; they win over `settings`.

    Raises:
        ConfigError: A setting is unknown or wrong.
    """

    def __init__(
        self, settings: SecuritySettings | Mapping[str, Any] | None = None, *, host: Host | None = None, **options: Any
    ) -> None:
        self.settings = build(SecuritySettings, settings, options)
        self.host = host or Host()
        self.proxies = TrustedProxies(self.settings.trusted_proxies)
        self.limiter = Limiter(self.host.clock)
        if self.settings.rate_limit is not None:
            parse_rate(self.settings.rate_limit)
        self._check_signing_key()
        self._tally = Tally()
        self._trail = Trail(
            self._open_store, host=self.host, signer=self._signer, about={"level": self.settings.audit_level}
        )
        self._forget_facts = self.host.facts.add(self._facts)
        self._forget_standing = self.host.standings.add(self._trail.standing)
        after_fork(self._tally.after_fork)
        after_fork(self.limiter.after_fork)

    @property
    def enforces(self) -> bool:
        """Whether missing evidence denies; otherwise it is only told."""
        mode = self.settings.mode
        return mode == "enforce" if mode is not None else self.host.profile == "production"

    @property
    def trail(self) -> Trail:
        """The audit log; opens with its first record.

        Raises:
            ConfigError: Production has no folder for it.
        """
        if self.settings.trail_dir is None and self.host.profile == "production":
            raise ConfigError(
                "SMW-A102",
                "an audit log in memory is none: production needs security.trail_dir",
                fix="set SECURITY_TRAIL_DIR, or use the profile development",
            )
        return self._trail

    @functools.cached_property
    def catalogue(self) -> Catalogue | None:
        """The data catalogue; None when there is none.

        Raises:
            ConfigError: It cannot be read or has a wrong entry.
        """
        return load(self.settings.catalogue)

    @functools.cached_property
    def _digests(self) -> Digests:
        key = self.settings.digest_key
        return Digests(self.host.entropy.token_bytes(32) if key is None else key.encode())

    def pseudonym(self, subject: str) -> str:
        """Return what stands for a subject in the audit log, to find their records.

        It is the same after a restart only where `digest_key` is set.
        """
        return self._digests.pseudonym(subject)

    def report(self) -> Report:
        """Return what the controls said so far in this process."""
        return self._tally.report()

    @plainly("@audit_log", '@security.audit_log("user_data_access")')
    def audit_log(
        self, action: str, *, resource: str | None = None, subject: str | None = None, keep: Iterable[str] = ()
    ) -> Callable[[F], F]:
        """Record each call here; as `security.audit_log`, bound to this object."""
        return advise(AuditLog(action, resource, subject, keep, self))

    @plainly("@require_compliance", '@security.require_compliance(["GDPR"])')
    def require_compliance(
        self,
        frameworks: Iterable[str],
        *,
        purpose: str | None = None,
        data: Iterable[str] = (),
        mode: Mode | None = None,
    ) -> Callable[[F], F]:
        """Judge each call here; as `security.require_compliance`, bound to this object."""
        return advise(RequireCompliance(frameworks, purpose, data, mode, self))

    def close(self) -> None:
        """Write, seal and close the audit log; idempotent."""
        self._forget_facts()
        self._forget_standing()
        self._trail.close()

    async def aclose(self) -> None:
        """Write, seal and close the audit log without blocking the event loop; idempotent."""
        await asyncio.to_thread(self.close)

    def recording(self, target: Target, wanted: AuditLog, *, begin: bool) -> Around:
        """Return the step that records the calls of one function.

        Args:
            target: The function.
            wanted: What its decorator asks for.
            begin: Write the intent at once; otherwise a control further down does.
        """
        recorder = self._recorder(deny=self.enforces)
        plan = Plan(target, wanted.action, resource=wanted.resource, subject=wanted.subject, keep=wanted.keep)

        async def around(call: Call, proceed: Proceed) -> Any:
            entry = Entry(recorder, plan, call)
            call.notes.setdefault(ENTRIES, []).append(entry)
            return await recorder.run(entry, proceed, begin=begin)

        return around

    def judging(self, target: Target, wanted: RequireCompliance, *, kept: frozenset[str]) -> Around:
        """Return the step that judges the calls of one function.

        Args:
            target: The function.
            wanted: What its decorator asks for.
            kept: Arguments that its records keep readable.

        Raises:
            ConfigError: The catalogue, or a data class of the decorator, is wrong.
        """
        from smw.security.compliance.arguments import Arguments
        from smw.security.compliance.engine import Judge

        unknown = [name for name in wanted.data if name not in CLASSES]
        if unknown:
            what = f"@require_compliance on {target.qualname}: unknown data class {unknown[0]!r}"
            raise ConfigError("SMW-A115", what, fix=f"known: {', '.join(CLASSES)}")
        arguments = Arguments(target, self.catalogue, data=frozenset(wanted.data), kept=kept)
        enforce = self.enforces if wanted.mode is None else wanted.mode == "enforce"
        judge = Judge(
            wanted.frameworks,
            purpose=wanted.purpose,
            catalogue=self.catalogue,
            durable=lambda: self.settings.trail_dir is not None,
        )
        recorder = self._recorder(deny=enforce)
        plan = Plan(target, target.qualname)
        return Gate(judge, arguments, plan, recorder, enforce=enforce, host=self.host, tally=self._tally).around

    def _recorder(self, *, deny: bool) -> Recorder:
        return Recorder(
            self.trail,  # production without a folder fails here, at the first call, not in its middle
            self._digests,
            level=self.settings.audit_level,
            deny=deny,
            host=self.host,
            tally=self._tally,
        )

    def _open_store(self) -> AuditStore:
        def new_id() -> bytes:
            return self.host.entropy.token_bytes(6)

        if self.settings.trail_dir is None:
            from smw.security.trail.memory import MemoryStore

            return MemoryStore(f"0001-{new_id().hex()}")
        from smw.security.trail.files import open_store
        from smw.security.trail.verify import is_signed

        signer = self._signer()
        # Continuing a log puts this service's signature over all of it.
        accepts = None if signer is None else lambda checkpoint: is_signed(checkpoint, signer.public)
        return open_store(self.settings.trail_dir, new_id, accepts=accepts)

    def _check_signing_key(self) -> None:
        key, folder = self.settings.signing_key, self.settings.trail_dir
        if key is None or folder is None:
            return
        if Path(key).resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                "SMW-A103",
                "security.signing_key lies in security.trail_dir: whoever can change the log could sign it again",
                fix="keep the key outside the folder of the log",
            )

    def _signer(self) -> Signer | None:
        if self.settings.signing_key is None:
            return None
        from smw.security.trail.cryptography import load_signer

        return load_signer(Path(self.settings.signing_key))

    def _facts(self) -> Iterator[Fact]:
        report = self._tally.report()
        about = "Calls that a compliance control refused, or would have refused"
        counts: dict[tuple[str, str], int] = {}
        for finding, count in report.findings:
            key = finding.control, finding.outcome
            counts[key] = counts.get(key, 0) + count
        for (control, outcome), count in counts.items():
            labels = (("control", control), ("outcome", outcome))
            yield Fact("smw_compliance_failures_total", "counter", about, labels, count)
        yield Fact("smw_audit_records_total", "counter", "Records of the audit log", (), self._trail.added)
        about = "Calls that ran although the audit log could not take their record"
        yield Fact("smw_audit_unrecorded_total", "counter", about, (), report.unrecorded)
