"""Keeping Triton at what is wanted: writing, loading and unloading versions, and asking whether they answer."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from schemas.bundle import TRITON, Bundle
from schemas.events import Candidate, Deployment
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import Rejected, Retryable
from services.serving.domain.deployments import Placed, Trial, specialist_model, wanted_versions
from services.serving.ports import ModelServer, Repository

# A version that fails this often in a row is unloaded and loaded anew: Triton calls one ready whose process was killed.
FAILURES_BEFORE_RELOAD = 2
# A version that Triton refused to load is tried again after this time.
REFUSED_SECONDS = 60.0


@dataclass(frozen=True)
class _Refusal:
    reason: str
    until: float  # by the monotonic clock


@dataclass(frozen=True)
class Wanted:
    """What is to be loaded: the bundle's models, the newest deployment of each task, and what is on trial."""

    bundle: Bundle | None
    deployments: Mapping[str, Deployment]
    trials: Iterable[Trial]


class Placement:
    """Keeps one Triton, and the repository that it loads from, at what is wanted.

    Whoever changes what is wanted and has that arranged holds `arranging` meanwhile.
    """

    def __init__(self, wanted: Callable[[], Wanted], server: ModelServer, repository: Repository, clock: Clock) -> None:
        self._wanted = wanted
        self._server = server
        self._repository = repository
        self._clock = clock
        self._health: dict[Placed, str] = {}  # empty: it answered; else what it complained of
        self._failures: Counter[Placed] = Counter()  # in a row
        self._refused: dict[Placed, _Refusal] = {}  # by Triton
        self._complaints: dict[str, str] = {}  # of what could not be written, by model or candidate
        self.arranging = asyncio.Lock()

    async def write(self, candidate_id: str, model: str, adapter_path: str) -> Placed:
        """Write a candidate that is to be tried, and return where; what Triton refused of it is forgotten.

        Raises:
            Rejected: There is no such adapter, or it cannot be used.
        """
        # First what is deployed, which has its version's number already.
        await asyncio.to_thread(self._place, self._wanted())
        placed = await asyncio.to_thread(self._repository.write_specialist, model, candidate_id, adapter_path)
        self._refused.pop(placed, None)
        return placed

    async def write_again(self, candidates: Iterable[Candidate]) -> dict[str, Placed]:
        """Return where candidates are, written anew where they are not in the repository; those that can be loaded."""
        found = {}
        for candidate in candidates:
            model = specialist_model(candidate.tenant, candidate.task)
            try:
                place = await asyncio.to_thread(
                    self._repository.write_specialist, model, candidate.candidate_id, candidate.adapter_path
                )
            except Rejected as error:
                self._complain(candidate.candidate_id, str(error))
                continue
            if place not in self._refused:
                found[candidate.candidate_id] = place
        return found

    def refusal(self, placed: Placed | None) -> str:
        """Return why Triton refused to load a version lately; empty: it did not."""
        refused = self._refused.get(placed) if placed is not None else None
        return refused.reason if refused is not None else ""

    def complaints(self, candidate_ids: Iterable[str]) -> list[str]:
        """Return what the last look at the version of each candidate complained of; empty: it answers."""
        placed = self._repository.placed()
        return [
            self._health.get(placed[each], "not checked yet")
            if each in placed
            else self._complaints.get(each) or "it is not in the model repository"
            for each in candidate_ids
        ]

    async def reconcile(self) -> None:
        """Bring Triton to what is wanted, then ask every version.

        Raises:
            Retryable: Triton does not answer.
        """
        async with self.arranging:
            wanted = await self.arrange()
        for gone in self._health.keys() - wanted:
            del self._health[gone]
            del self._failures[gone]
        await asyncio.gather(*(self.check(placed) for placed in wanted))

    async def arrange(self, also: Iterable[Deployment] = ()) -> set[Placed]:
        """Write, load and unload what differs from what is wanted, and `also`; return what should be loaded.

        Raises:
            Retryable: Triton does not answer.
        """
        want = self._wanted()
        generic, placed = await asyncio.to_thread(self._place, want)
        wanted = wanted_versions(generic, [*want.deployments.values(), *also], placed, want.trials)
        loaded = dict(await self._server.loaded())
        for model in {place.model for place, count in self._failures.items() if count >= FAILURES_BEFORE_RELOAD}:
            if model in loaded:
                telemetry.log().error("reloading", model=model)
                await self._unload(model)
                del loaded[model]
            self._failures = Counter({place: n for place, n in self._failures.items() if place.model != model})
        now = self._clock.monotonic()
        for model, versions in wanted.items():
            have = loaded.get(model, frozenset())
            usable = frozenset(v for v in versions if not self._is_refused(Placed(model, v), now))
            if usable and usable != have:
                await self._load(model, usable, have & usable)
        named = (
            {model.served_as for model in want.bundle.models.values() if model.upstream == TRITON}
            if want.bundle
            else set()
        )
        # What others loaded is theirs.
        for model in (loaded.keys() & self._repository.models()) - wanted.keys() - named:
            await self._unload(model)
        return {Placed(model, version) for model, versions in wanted.items() for version in versions}

    async def check(self, placed: Placed) -> str:
        """Ask a version whether it answers; return what it complains of."""
        refusal = self.refusal(placed)
        if refusal:
            self._health[placed] = refusal
            return refusal
        try:
            await self._server.check(placed.model, placed.version)
        except Retryable as error:
            self._failures[placed] += 1
            self._health[placed] = str(error)
            telemetry.log().error("does not answer", model=placed.model, version=placed.version, error=str(error))
        else:
            del self._failures[placed]
            self._health[placed] = ""
        return self._health[placed]

    def _place(self, want: Wanted) -> tuple[list[Placed], dict[str, Placed]]:
        """Write what is wanted and not in the repository: after a loss of it, or on a new machine.

        Returns:
            Where the bundle's models are, and where each candidate is, by id.
        """
        generic = []
        for model in want.bundle.models.values() if want.bundle is not None else ():
            if model.weights:
                try:
                    generic.append(self._repository.write_generic(model.served_as, model.weights))
                    self._complain(model.served_as, "")
                except Rejected as error:
                    self._complain(model.served_as, str(error))
        placed = dict(self._repository.placed())
        live = [each for each in want.deployments.values() if each.state == "live"]
        # What a canary leaves callers to, too.
        for deployment in (*live, *filter(None, (each.proven for each in live))):
            if deployment.candidate_id in placed:
                continue
            try:
                # Under its number: that is what requests ask for.
                version = int(deployment.model_version) if deployment.model_version.isdecimal() else None
                placed[deployment.candidate_id] = self._repository.write_specialist(
                    deployment.model, deployment.candidate_id, deployment.adapter_path, version
                )
                self._complain(deployment.candidate_id, "")
            except Rejected as error:
                self._complain(deployment.candidate_id, str(error))
        return generic, placed

    async def _load(self, model: str, versions: frozenset[int], have: frozenset[int]) -> None:
        """Load versions of a model; where Triton refuses, those of them that it takes, beside those that it has."""
        if await self._loads(model, versions) is None:
            return
        good = have
        for version in sorted(versions - have):
            reason = await self._loads(model, good | {version})
            if reason is None:
                good |= {version}
            else:
                until = self._clock.monotonic() + REFUSED_SECONDS
                self._refused[Placed(model, version)] = _Refusal(reason, until)
        if good:
            self._repository.choose(model, good)

    async def _loads(self, model: str, versions: frozenset[int]) -> str | None:
        """Load versions of a model, all or none; return why Triton refuses, if it does."""
        started = self._clock.monotonic()
        self._repository.choose(model, versions)
        try:
            await self._server.load(model)
        except Rejected as error:
            telemetry.log().error("not loaded", model=model, versions=sorted(versions), error=str(error))
            return str(error)
        except Retryable as error:  # it may come yet: the next look will tell
            telemetry.log().error("not loaded in time", model=model, versions=sorted(versions), error=str(error))
            return None
        seconds = round(self._clock.monotonic() - started, 2)
        telemetry.log().info("loaded", model=model, versions=sorted(versions), seconds=seconds)
        return None

    async def _unload(self, model: str) -> None:
        try:
            await self._server.unload(model)
        except (Rejected, Retryable) as error:
            telemetry.log().error("not unloaded", model=model, error=str(error))

    def _is_refused(self, placed: Placed, now: float) -> bool:
        refusal = self._refused.get(placed)
        if refusal is not None and refusal.until <= now:
            del self._refused[placed]
            refusal = None
        return refusal is not None

    def _complain(self, about: str, complaint: str) -> None:
        """Remember what keeps something from being written, and log it when it changes."""
        if complaint and complaint != self._complaints.get(about):
            telemetry.log().error("not written", what=about, error=complaint)
        self._complaints[about] = complaint
