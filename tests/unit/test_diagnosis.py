"""Each end gets the cause that its evidence holds, and no more."""

from __future__ import annotations

import dataclasses

import pytest
from diagnosis_scenarios import END, KILL, SCENARIOS, Scenario, ago, busy, by, closed, code, died, error, fault, samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmdebug import diagnosis, records
from mmdebug.diagnosis import RULES, Cause, Evidence, Rule, Verdict, diagnose
from mmdebug.diagnosis.verdict import CONFIDENCES


def everything(verdict: Verdict) -> str:
    """All that a verdict says, in lower case."""
    texts = [verdict.summary]
    for cause in verdict.causes:
        texts += [cause.name, cause.summary, *cause.evidence, *cause.against]
    return "\n".join(texts).lower()


def first(evidence: Evidence) -> Cause:
    return diagnose(evidence).causes[0]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
def test_an_end_gets_its_cause_and_nothing_that_is_not_known(scenario: Scenario) -> None:
    verdict = diagnose(scenario.evidence)
    names = [cause.name for cause in verdict.causes]
    sure = verdict.causes[0].confidence if verdict.causes else ""
    assert ((names or [""])[0], sure) == (scenario.cause, scenario.confidence), verdict
    assert not set(scenario.also) - set(names)
    assert not set(scenario.never) & set(names)
    assert all([text in verdict.summary for text in scenario.says]), verdict.summary
    assert not [word for word in scenario.unsaid if word in everything(verdict)], everything(verdict)


def test_the_scenarios_have_names_of_their_own() -> None:
    assert len({scenario.id for scenario in SCENARIOS}) == len(SCENARIOS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_rule_can_be_left_out(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [diagnose(scenario.evidence) for scenario in SCENARIOS]
    monkeypatch.setattr(diagnosis, "RULES", tuple([one for one in RULES if one is not rule]))
    assert told != [diagnose(scenario.evidence) for scenario in SCENARIOS]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
def test_the_summary_says_by_itself_how_sure_it_is(scenario: Scenario) -> None:
    summary = diagnose(scenario.evidence).summary.lower()
    assert ("most likely" in summary) == (scenario.confidence == "likely")
    if scenario.confidence == "possible":
        assert "perhaps" in summary or "may have" in summary


# What the sentences hold.


def test_a_count_that_may_be_anothers_says_so() -> None:
    cause = first(died(exit=by(KILL, oom_kills_before=2, oom_kills_after=3)))
    assert "rose from 2 to 3" in cause.evidence[1]
    assert any("another process" in item for item in cause.against)


def test_a_count_of_kills_that_stood_still_is_said_to_exclude_the_kernel() -> None:
    cause = first(died(exit=by(KILL, oom_kills_before=3, oom_kills_after=3)))
    assert any("the kernel did not do it" in item for item in cause.evidence)


def test_the_parents_count_counts_more_than_the_one_found_later() -> None:
    noted = by(KILL, oom_kills_before=3, oom_kills_after=3)
    assert first(died(exit=noted, oom_kills_start=3, oom_kills_found=9)).name == "killed"


def test_memory_is_told_in_sizes_and_as_a_share_of_the_limit() -> None:
    cause = first(died(samples=samples(rss=486.4 * 2**20), memory_limit=512 * 2**20))
    assert any("486 MiB 0.0 s before its last sign of life, which is 95 % of the limit of 512 MiB" in item
               for item in cause.evidence)  # fmt: skip
    assert any("not known" in item for item in cause.against)


def test_without_a_recorder_it_is_said_that_nothing_is_known_of_exceptions() -> None:
    for evidence in (died(boxed=False), closed(boxed=False), died(boxed=False, exit=code(3))):
        assert "there was no recorder" in everything(diagnose(evidence))
        assert "there was no recorder" not in everything(diagnose(dataclasses.replace(evidence, boxed=True)))


def test_a_fault_handler_that_wrote_nothing_speaks_against_a_crash() -> None:
    def crashed(on: bool | None) -> Cause:
        return next(cause for cause in diagnose(died(fault_handler=on)).causes if cause.name == "crashed")

    assert "wrote nothing" in crashed(True).against[0]
    assert crashed(False).against == crashed(None).against == ()
    assert "is not known" in crashed(None).evidence[-1]


def test_a_crash_tells_the_thread_its_place_and_what_that_thread_did() -> None:
    cause = first(died(fault=fault("Segmentation fault", thread=0x51), threads={0x51: "worker-1"},
                       activities=(busy(9, "other"), busy(2, thread=0x51)), exit=by(11)))  # fmt: skip
    assert "it happened in thread worker-1, at app.py:0 call0" in cause.evidence
    assert "that thread was in GET /report for 2.0 s" in cause.evidence


def test_a_crash_in_a_thread_that_is_not_told_is_given_none() -> None:
    verdict = diagnose(died(fault=fault("Segmentation fault", thread=0), activities=(busy(2, thread=0),)))
    assert "it happened in a thread that it does not tell" in "\n".join(verdict.causes[0].evidence)


def test_a_hang_tells_whether_it_computed_or_waited() -> None:
    def hung(cpu: float) -> str:
        return "\n".join(first(died(exit=by(KILL), activities=(busy(25),), samples=samples(cpu=cpu))).evidence)

    assert "it computed: 100 % of a CPU" in hung(1)
    assert "it mostly waited: 0 % of a CPU" in hung(0)
    assert "the last thing recorded of the program itself was 25 s before the end" in hung(0)


def test_the_samplers_own_series_are_no_work_of_the_program() -> None:
    def hung(moved: str) -> str:
        return first(died(exit=by(KILL), activities=(busy(25),), samples=samples(moved=(moved,)))).name

    assert hung("runtime.cpu") == "hang"
    assert hung("rows") == "killed"


def test_signals_of_the_parent_stand_in_the_evidence_with_their_times() -> None:
    scenario = next(one for one in SCENARIOS if one.id == "gunicorn-timeout")
    cause = first(scenario.evidence)
    assert "its parent gunicorn (pid 10) was told that SIGKILL ended it" in cause.evidence
    assert "its parent sent it SIGABRT 1.0 s before the end" in cause.evidence
    assert "its parent sent it SIGKILL 0.1 s before the end" in cause.evidence


def test_an_exception_tells_its_place_and_what_it_came_of() -> None:
    record = error("app.Boom")
    assert record.error is not None
    deep = records.CapturedError("KeyError", "'user'")
    chained = dataclasses.replace(record, error=dataclasses.replace(record.error, context=deep), count=3)
    cause = first(closed(exceptions=(chained,), exit=code(1)))
    assert cause.evidence[:4] == (
        "app.Boom: no such page, 0.2 s before the end",
        "it was raised at app.py:7 view",
        "it came 3 times, the first 0.2 s before the end",
        "at the root of it was KeyError: 'user'",
    )


def test_long_texts_of_a_file_are_cut_and_stay_on_one_line() -> None:
    verdict = diagnose(
        closed(exceptions=(error("E" * 9000, message="\n" * 9000 + "m" * 9000),), activities=(busy(1, "x\n" * 9000),))
    )
    assert max(len(line) for line in everything(verdict).split("\n")) < 800
    assert "\n" not in verdict.summary


# When it was.


def test_the_end_lies_between_the_last_sign_of_life_and_the_finding() -> None:
    evidence = died(created=ago(99), heartbeat=ago(7), events=(records.Event(ago(5), "info", "event", "x"),))
    assert (diagnose(evidence).after, diagnose(evidence).before) == (ago(5), evidence.found)
    for sign in (
        {"heartbeat": ago(3)},
        {"activities": (busy(3),)},
        {"samples": (records.Sample(ago(3)),)},
        {"exceptions": (error("ValueError", "thread", 3),)},
    ):
        assert diagnose(dataclasses.replace(evidence, **sign)).after == ago(3)


def test_the_end_is_not_after_the_parent_was_told() -> None:
    assert diagnose(died(exit=by(KILL), heartbeat=ago(2))).before == END
    assert diagnose(died(exit=records.Exit(status=9, time=0))).before == END + 60 * 10**9


def test_a_closed_file_tells_the_time_of_the_end() -> None:
    verdict = diagnose(closed(heartbeat=ago(3)))
    assert verdict.after == verdict.before == END


def test_a_clock_that_was_set_back_leaves_no_false_bounds() -> None:
    verdict = diagnose(died(exit=by(KILL), heartbeat=END + 10**9))
    assert (verdict.after, verdict.before) == (None, END)


def test_of_a_process_that_may_live_no_end_is_bounded() -> None:
    assert diagnose(died(state="unknown")).before is None
    verdict = diagnose(died(state="alive", heartbeat=ago(1)))
    assert (verdict.after, verdict.before, verdict.causes) == (None, None, ())


# Whatever the evidence.

times = st.integers(-(10**9), 2**64) | st.integers(END - 10**11, END + 10**11)
numbers = st.floats(0, 1e12) | st.sampled_from([float("nan"), float("inf"), -1.0, 1e308])
texts = st.text(max_size=12) | st.sampled_from(["WORKER TIMEOUT", "gunicorn", "gunicorn.worker_abort"])
idents = st.integers(0, 3)
counts = st.none() | st.integers(0, 4)
errors = st.sampled_from(["ValueError", "MemoryError", "KeyboardInterrupt", "SystemExit", ""])
ways = st.sampled_from(["main thread", "thread", "greenlet", "task", "unraisable", "captured", "other"])
sents = st.lists(st.builds(records.SignalSent, times, st.sampled_from([6, 9, 15]) | st.integers(0, 64)), max_size=3)
exits = st.builds(
    records.Exit,
    st.sampled_from([0, 256, 6, 9, 11, 15, 139]) | st.integers(-(2**31), 2**31),
    st.just(0) | times, st.integers(0, 99), texts, sents.map(tuple), counts, counts, st.integers(0, 2**40),
)  # fmt: skip
captured = st.builds(records.CapturedError, errors, texts)
frames = st.builds(records.FaultFrame, texts, st.none() | st.integers(0, 9), texts)
stacks = st.lists(frames, max_size=4).flatmap(lambda some: st.sampled_from([some, some * 30]).map(tuple))
threads = st.builds(records.FaultThread, idents, st.booleans(), stacks, texts)
headlines = st.sampled_from(["Segmentation fault", "Aborted", "Bus error", "Cannot recover from stack overflow", "odd"])
faults = st.builds(
    records.Fault,
    headlines.map(lambda text: f"Fatal Python error: {text}") | texts,
    st.lists(threads, max_size=2).map(tuple),
    texts,
)


def many(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=3).map(tuple)


evidences = st.builds(
    Evidence,
    state=st.sampled_from(["alive", "closed", "died", "unknown", "nonsense"]),
    reason=texts,
    exit=st.none() | exits,
    fault=st.none() | faults,
    boxed=st.booleans(),
    activities=many(st.builds(records.Activity, texts, times, thread=idents, context=idents, depth=st.integers(0, 9))),
    events=many(st.builds(records.Event, times, st.just("error"), st.just("log"), texts)),
    exceptions=many(
        st.builds(
            records.ExceptionRecord,
            errors,
            texts,
            ways,
            st.integers(0, 9),
            times,
            times,
            idents,
            idents,
            st.booleans(),
            st.none() | captured,
        )
    ),
    samples=many(
        st.builds(records.Sample, times, st.dictionaries(st.sampled_from(["rss", "lag", "cpu"]), numbers), many(texts))
    ),
    threads=st.dictionaries(idents, texts),
    main_thread=idents,
    created=st.none() | times,
    closed=st.none() | times,
    heartbeat=st.none() | times,
    found=st.just(0) | times,
    oom_kills_start=counts,
    oom_kills_found=counts,
    memory_limit=st.none() | st.integers(-1, 2**41),
    address_limit=st.none() | st.integers(-1, 2**41),
    truncated_boot=st.booleans(),
    fault_handler=st.none() | st.booleans(),
)

anything = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@anything
@given(evidences)
def test_any_evidence_gives_the_same_verdict_twice_with_the_surest_first(evidence: Evidence) -> None:
    verdict = diagnose(evidence)
    assert verdict == diagnose(evidence)
    assert verdict.state == evidence.state
    ranks = [CONFIDENCES.index(cause.confidence) for cause in verdict.causes]
    assert ranks == sorted(ranks)
    assert ranks.count(0) <= 1, "two certain causes contradict each other"
    assert verdict.summary and all([cause.summary.endswith(".") and cause.evidence for cause in verdict.causes])
    if verdict.after is not None and verdict.before is not None:
        assert verdict.after <= verdict.before
    if evidence.state == "alive":
        assert not verdict.causes


@anything
@given(evidences)
def test_no_evidence_of_the_kernels_kills_gives_no_such_cause(evidence: Evidence) -> None:
    found = evidence.exit
    rose = found is not None and (found.oom_kills_before or 0) < (found.oom_kills_after or 0)
    rose = rose or (evidence.oom_kills_start or 0) < (evidence.oom_kills_found or 0)
    sized = any([sample.values.get("rss") for sample in evidence.samples]) or (found is not None and found.max_rss > 0)
    causes = {cause.name: cause.confidence for cause in diagnose(evidence).causes}
    if not rose:
        assert causes.get("oom_killed", "possible") == "possible"
        assert "oom_killed" not in causes or (sized and evidence.memory_limit)


@anything
@given(evidences)
def test_certain_is_only_what_was_noted_or_recorded_by_a_witness(evidence: Evidence) -> None:
    """Never from silence: without a parent's note, faulthandler's text or a recorded exception nothing is certain."""
    fatal = any([record.fatal for record in evidence.exceptions])
    text = evidence.fault is not None and evidence.fault.headline.startswith("Fatal")
    if evidence.exit is None and not fatal and not text:
        assert all([cause.confidence != "certain" for cause in diagnose(evidence).causes])


@anything
@given(evidences)
def test_a_hang_and_what_leaves_no_trace_are_never_certain(evidence: Evidence) -> None:
    for cause in diagnose(evidence).causes:
        if cause.name in ("hang", "crashed", "machine_stopped") or cause.name.startswith("uncaught_in_"):
            assert cause.confidence != "certain"


@anything
@given(evidences)
def test_no_cause_stands_twice_in_a_verdict(evidence: Evidence) -> None:
    names = [cause.name for cause in diagnose(evidence).causes]
    assert len(names) == len(set(names)), names
