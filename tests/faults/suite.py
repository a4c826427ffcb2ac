"""The whole table: every case and scene, in groups, at most some at a time."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults import certs, scenes, stops
from tests.faults.cases import plain_rules
from tests.faults.model import Case, Result
from tests.faults.proxy import GROUPS, Proxy
from tests.faults.special import refused, special_rules
from tests.faults.stage import Stage
from tests.faults.upstream import UNSEEN, Upstream

AT_ONCE = 12
ROUNDS = (("main",), ("clock", "scenes", "stops"), ("h2",), ("slow",))
"""Groups of one round run side by side; those that measure, or are sensitive to it, do not."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be played. `cases`, `scenes`, `stops`: in the order of the table."""

    cases: tuple[Case, ...]
    scenes: tuple[scenes.Scene, ...]
    stops: tuple[stops.Stop, ...]

    def names(self) -> tuple[str, ...]:
        """Every row's name, in order, but for those that a whole group adds."""
        stopped = itertools.chain.from_iterable(stop.cases for stop in self.stops)
        everyone = itertools.chain(self.cases, (scene.case for scene in self.scenes), stopped)
        return tuple(case.name for case in everyone)

    def groups(self) -> tuple[str, ...]:
        """The groups that are needed."""
        used = {case.group for case in self.cases} | {scene.case.group for scene in self.scenes}
        return tuple(name for name in GROUPS if name in used)

    def only(self, wanted: Callable[[str], bool]) -> Plan:
        """The part of it whose names are wanted."""
        return Plan(
            tuple(case for case in self.cases if wanted(case.name)),
            tuple(scene for scene in self.scenes if wanted(scene.case.name)),
            tuple(stop for stop in self.stops if any(wanted(case.name) for case in stop.cases)),
        )


def whole_plan() -> Plan:
    """Everything."""
    cases = (*plain_rules(), *special_rules(), *refused())
    return Plan(cases, tuple(scenes.scenes()), tuple(stops.stops()))


def matching(pattern: str) -> Callable[[str], bool]:
    """Names that hold `pattern`, a glob, somewhere, in any case."""
    glob = f"*{pattern.lower()}*"
    return lambda name: fnmatch.fnmatchcase(name.lower(), glob)


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Stage]:
    """A stage with its upstream, files in `folder`."""
    certificates = certs.make(folder)
    async with Upstream(certificates) as upstream:
        yield Stage(upstream, certificates, folder)


async def play(plan: Plan, folder: Path) -> list[Result]:
    """Play all of `plan`; one result a row, in the order of the table, then those of the groups."""
    results: list[Result] = []
    async with opened(folder) as stage:
        for names in ROUNDS:
            work = [_group(stage, plan, name) for name in names if name in plan.groups()]
            if "stops" in names:
                work += [_stop(stage, stop) for stop in plan.stops]
            for part in await asyncio.gather(*work):
                results += part
        unexpected = tuple(stage.upstream.unexpected)
    results.append(Result("the upstream met nothing unexpected", "all", "", "", "", unexpected))
    order = {name: number for number, name in enumerate(plan.names())}
    return sorted(results, key=lambda result: order.get(result.name, len(order)))


async def _group(stage: Stage, plan: Plan, name: str) -> list[Result]:
    """All cases and scenes of a group, at one proxy."""
    cases = [case for case in plan.cases if case.group == name]
    played = [scene for scene in plan.scenes if scene.case.group == name]
    everyone = [*cases, *(scene.case for scene in played)]
    at_once = asyncio.Semaphore(AT_ONCE)
    try:
        async with stage.proxy(GROUPS[name], everyone) as proxy:
            work = [_bounded(at_once, _playing(stage, proxy, case), case) for case in cases]
            work += [
                _bounded(at_once, _acting(stage, proxy, scene), scene.case) for scene in played
            ]
            results = list(await asyncio.gather(*work))
            code = await proxy.stop()
            return results + list(_of_the_group(stage, proxy, everyone, code))
    except RuntimeError as error:
        return [Result(case.name, name, "", "", "", (str(error),)) for case in everyone]


async def _stop(stage: Stage, stop: stops.Stop) -> list[Result]:
    """One shutdown; if it could not be played at all, its rows say so."""
    try:
        return await stops.play(stage, stop)
    except Exception as error:  # noqa: BLE001 - it must not hide the rest
        return [Result(case.name, "stops", "", "", "", (repr(error),)) for case in stop.cases]


async def _bounded(
    at_once: asyncio.Semaphore, play: Callable[[], Awaitable[Result]], case: Case
) -> Result:
    async with at_once:
        try:
            return await play()
        except Exception as error:  # noqa: BLE001 - one broken case must not hide the rest
            problem = f"the case itself broke: {error!r}"
            return Result(case.name, case.group, "", "", "", (problem,))


def _playing(stage: Stage, proxy: Proxy, case: Case) -> Callable[[], Awaitable[Result]]:
    return lambda: stage.play(proxy, case)


def _acting(stage: Stage, proxy: Proxy, scene: scenes.Scene) -> Callable[[], Awaitable[Result]]:
    return lambda: scene.play(stage, proxy, scene.case)


def _of_the_group(
    stage: Stage, proxy: Proxy, cases: Sequence[Case], code: int | None
) -> Iterator[Result]:
    """What must hold of all of a group together."""
    name = proxy.group.name
    complaints = tuple(f"log: {line}" for line in proxy.complaints())
    if code != 0:
        complaints += (f"the exit code was {code}: {proxy.log()[-2000:]}",)
    yield Result(
        f"{name}: exit 0, nothing odd in the log", name, "", "", f"exit {code}", complaints
    )
    models = {case.model(number) for case in cases for number in range(len(case.candidates))}
    tries = sum(1 for turn in stage.upstream.tries if turn.model in models)
    rows = [
        row
        for row in proxy.rows("attempts", "1")
        if row["provider"] not in UNSEEN or row["status"] is not None
    ]
    wrong = () if tries == len(rows) else (f"{tries} tries, {len(rows)} rows",)
    yield Result(
        f"{name}: as many attempt rows as tries",
        name,
        f"{tries} tries",
        f"{len(rows)} rows",
        "",
        wrong,
    )
    open_rows = len(proxy.rows("requests", "outcome = 'in_flight'"))
    left = (f"{open_rows} requests are still in flight",) if open_rows else ()
    yield Result(f"{name}: every request is closed", name, "", "", "", left)
