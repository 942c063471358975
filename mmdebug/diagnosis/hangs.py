"""The hypothesis that a process hung, and was ended for that."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from signal import Signals

from ..records import Activity
from .clues import LONG, Clues, age, innermost, memory, parent, signal_name, span, status_lines
from .verdict import Cause


@dataclass(frozen=True, slots=True)
class Signs:
    """What speaks for a hang.

    stuck: the activity that was in flight for long, and nothing in it
    lag: s that the main loop was behind by the last sample; 0 for little or not known
    silent: whether nothing that the program does was recorded for long before the end
    frozen: ns for which the sampler did not come to run either; 0 for little or not known
    """

    stuck: Activity | None
    lag: float
    silent: bool
    frozen: int

    @property
    def open_ended(self) -> bool:
        """Whether it is a notebook's cell that was in flight for long: those take as long as they take."""
        return self.stuck is not None and self.stuck.name.startswith("In[")

    @property
    def confidence(self) -> str:
        if self.lag or (self.stuck and (self.silent or self.frozen) and not self.open_ended):
            return "likely"
        return "possible" if self.stuck or self.frozen else ""


def hang(clues: Clues, found: tuple[Cause, ...]) -> Cause | None:
    """Killed while it hung: who killed it may be known for certain, that it hung is at most likely."""
    killer = _killer(clues)
    signs = signs_of(clues)
    confidence = signs.confidence
    if not killer or not confidence or (clues.crashed and "Aborted" not in clues.headline):
        return None
    sure = [cause for cause in found if cause.confidence == "certain"]
    if any(cause.name != "worker_timeout" for cause in sure):
        return None
    against = []
    if clues.number == Signals.SIGTERM and not signs.lag:
        confidence = "possible"
        against.append("SIGTERM is how orderly ends are asked for, as of a deployment: it says little of a hang")
    if clues.number == Signals.SIGABRT and not signs.lag and clues.sent(Signals.SIGABRT) is None:
        confidence = "possible"
        against.append("SIGABRT can be of its own: a failed assertion in C code calls abort()")
    if any(cause.name in ("oom_killed", "machine_stopped") and cause.confidence == "likely" for cause in found):
        confidence = "possible"
        against.append("a likelier reason for its end is known")
    if clues.traceless:
        against.append("no parent noted how it ended")
    if not signs.silent and clues.worked is not None:
        against.append(f"something was recorded as late as {clues.ago(clues.worked)}")
    if signs.stuck and not signs.lag:
        against.append("work that takes long looks the same")
    seems = "while it hung" if confidence == "likely" else "while it may have hung"
    return Cause("hang", f"{killer} {seems}.", confidence, tuple(_lines(clues, signs)), tuple(against))


def _killer(clues: Clues) -> str:
    """How the summary begins; empty if it was not killed from outside."""
    if clues.number in (Signals.SIGKILL, Signals.SIGABRT, Signals.SIGTERM, Signals.SIGQUIT):
        name = signal_name(clues.number)
        if clues.sent(clues.number) is not None:
            return f"Killed by {parent(clues)} with {name}"
        # Who sent an abort is open: it may have been the process itself.
        return f"Ended by {name}" if name == "SIGABRT" else f"Killed with {name}, by whom can't be told,"
    if clues.evidence.truncated_boot:
        return ""
    if clues.traceless:
        return "Died without a trace"
    return ""


def signs_of(clues: Clues) -> Signs:
    """Read the signs of a hang out of the clues."""
    found = clues.evidence
    oldest = next(iter(innermost(found.activities)), None)
    stuck = oldest if oldest is not None and clues.since(oldest.started) >= LONG else None
    lag = clues.last("lag")
    behind = lag[0] if lag and lag[0] * 1e9 >= LONG else 0.0
    silent = clues.worked is not None and clues.since(clues.worked) >= LONG
    frozen = 0
    if clues.exact and not clues.closed and found.heartbeat is not None:
        times = [sample.time for sample in found.samples]
        steps = [later - sooner for sooner, later in pairwise(times)]
        gap = clues.since(found.heartbeat)
        frozen = gap if gap >= max(LONG, 3 * max(steps[-10:], default=0)) else 0
    return Signs(stuck, behind, silent, frozen)


def _lines(clues: Clues, signs: Signs) -> list[str]:
    lines = []
    if signs.stuck:
        lines.append(f"it was in {age(clues, signs.stuck)}")
        others = [one for one in innermost(clues.evidence.activities) if one is not signs.stuck]
        if others:
            lines.append(f"{len(others)} more in flight, the youngest for {span(clues.since(others[-1].started))}")
    if signs.lag:
        lines.append(f"its main loop was behind by {span(signs.lag * 1e9)} at the last sample")
    if signs.silent and clues.worked is not None:
        lines.append(f"the last thing recorded of the program itself was {clues.ago(clues.worked)}")
        beat = clues.evidence.heartbeat
        if beat is not None and beat > clues.worked and not signs.frozen:
            lines.append(f"its sampler still ran {clues.ago(beat)}")
    if signs.frozen:
        lines.append(f"not even its sampler ran in the last {span(signs.frozen)}: stopped, or the GIL was held")
    lines += _cpu(clues, signs)
    if (held := memory(clues)) and held[0] >= 0.9:
        lines.append(held[1])
    return lines + status_lines(clues)


def _cpu(clues: Clues, signs: Signs) -> list[str]:
    """Whether it computed or waited while it was stuck."""
    since = signs.stuck.started if signs.stuck else None
    samples = [one for one in clues.evidence.samples if "cpu" in one.values and (since is None or one.time >= since)]
    if len(samples) < 2 or samples[-1].time - samples[0].time < 1_000_000_000:
        return []
    spent = samples[-1].values["cpu"] - samples[0].values["cpu"]
    share = 100 * spent * 1e9 / (samples[-1].time - samples[0].time)
    if not 0 <= share < 1e5:
        return []
    kind = "it computed" if share >= 50 else "it mostly waited" if share < 10 else "it computed and waited"
    return [f"{kind}: {share:.0f} % of a CPU over {span(samples[-1].time - samples[0].time)} of that"]
