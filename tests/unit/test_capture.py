"""Captured exceptions: what Python would print and more, without secrets, without a call, without a reference."""

from __future__ import annotations

import gc
import json
import re
import sys
import traceback
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_saferepr import Raisable, calls, hostile, trap

from mmdebug.capture import exceptions as capturing
from mmdebug.capture import sources
from mmdebug.capture.exceptions import Limits, capture, decode, encode, place_of, render, type_name
from mmdebug.capture.saferepr import Budget
from mmdebug.records import CapturedError, Frame


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    calls.clear()
    monkeypatch.setattr(sources, "_cached", {})


def caught(function: Callable[..., Any], *arguments: Any) -> BaseException:
    try:
        function(*arguments)
    except BaseException as error:  # also KeyboardInterrupt and alike
        return error
    raise AssertionError("it did not raise")


def fails(value: object) -> None:
    copied = [value]
    raise ValueError("no such thing", copied)


def chain_of(*errors: BaseException) -> BaseException:
    for inner, outer in zip(errors, errors[1:], strict=False):
        outer.__cause__ = inner
    return errors[-1]


def test_frames_have_their_places_source_lines_and_locals() -> None:
    error = caught(fails, 5)
    found = capture(error)
    assert (found.type, found.message) == ("ValueError", "('no such thing', [5])")
    frame = found.frames[-1]
    assert (frame.file, frame.function) == (__file__, "fails")
    assert [text for number, text in frame.source if number == frame.line] == [
        '    raise ValueError("no such thing", copied)'
    ]
    assert len(frame.source) == 5
    assert frame.locals == {"value": "5", "copied": "[5]"}
    assert found.frames[0].function == "caught"
    assert place_of(error) == f"{__file__}:{frame.line} fails"
    assert (found.frames_cut, found.cut_after, frame.cut) == (0, 0, 0)


def test_the_rendered_traceback_is_the_one_that_python_prints() -> None:
    def with_cause() -> None:
        try:
            fails(1)
        except ValueError as error:
            raise KeyError("x") from error

    def with_context() -> None:
        try:
            fails(1)
        except ValueError:
            raise OSError(2, "No such file", "name") from None if sys is None else OSError(3)

    def while_handling() -> None:
        try:
            with_cause()
        except KeyError:
            error = RuntimeError("two\nlines")
            error.add_note("a note\nof two lines")
            raise error  # noqa: B904

    def grouped() -> None:
        inner = ExceptionGroup("inner", [caught(fails, 1), TypeError("t")])  # type: ignore[list-item]
        last = caught(while_handling)
        try:
            fails(2)
        except ValueError:
            raise ExceptionGroup("outer", [last, inner, ValueError("last")])  # type: ignore[list-item]  # noqa: B904

    for function in (with_cause, with_context, while_handling, grouped):
        error = caught(function)
        printed = "".join(traceback.format_exception(error)).rstrip("\n").split("\n")
        # Python 3.11 and later mark the part of the line, and print the plain name of a function.
        marks = [line for line in printed if set("^~") & set(line) and set(line) <= set("^~ |")]
        found = [re.sub(r", in .*<locals>\.", ", in ", line) for line in render(capture(error))]
        assert found == [line.rstrip() for line in printed if line not in marks]


def test_locals_are_rendered_if_asked_for() -> None:
    lines = render(capture(caught(fails, 5)), locals=True)
    assert lines[-3:] == ["    value = 5", "    copied = [5]", "ValueError: ('no such thing', [5])"]
    assert "    value = 5" not in render(capture(caught(fails, 5)))


MESSAGES: list[tuple[BaseException, str]] = [
    (ValueError(), ""), (ValueError("x"), "x"), (ValueError(1), "1"), (ValueError(None), "None"),
    (ValueError("x", 1), "('x', 1)"), (KeyError("k"), "'k'"), (KeyError(), ""), (KeyboardInterrupt(), ""),
    (SystemExit(3), "3"), (StopIteration((1,)), "(1,)"),
    (OSError(2, "gone"), "[Errno 2] gone"), (FileNotFoundError(2, "gone", "f"), "[Errno 2] gone: 'f'"),
    (OSError("odd"), "odd"), (ImportError("no m", name="m"), "no m"),
    (SyntaxError("bad", ("f.py", 3, 1, "x")), "bad (f.py, line 3)"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"), "'utf-8' codec can't decode byte 0xff in position 0: odd"),
    (UnicodeEncodeError("ascii", "é", 0, 1, "odd"), "'ascii' codec can't encode character '\\xe9' in position 0: odd"),
    (UnicodeTranslateError("é", 0, 1, "odd"), "can't translate character '\\xe9' in position 0: odd"),
    (ExceptionGroup("g", [ValueError()]), "g (1 sub-exception)"), (ValueError("two\nlines"), "two\nlines"),
    (ValueError("a\x1b[31m\ud800"), r"a\x1b[31m\ud800"), (AttributeError("no x", name="x"), "no x"),
    (json.JSONDecodeError("bad", "{", 1), "bad: line 1 column 2 (char 1)"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message"), MESSAGES, ids=[f"{type(e).__name__}-{m}"[:40] for e, m in MESSAGES])
def test_messages_are_those_of_the_builtin_types(error: BaseException, message: str) -> None:
    assert capture(error).message == message
    if "\x1b" not in str(error):
        assert capture(error).message == str(error)


class Told(Exception):
    __str__ = __repr__ = trap("__str__")


class Numbered(Told):
    def __init__(self, *, code: int, password: str) -> None:
        self.code = code
        self.password = password


def test_a_message_of_the_programs_own_is_not_asked_for() -> None:
    odd = object.__new__(hostile())
    calls.clear()
    assert capture(Told("x")).message == "x"
    assert capture(Told("x", 1)).message == "('x', 1)"
    assert capture(Numbered(code=5, password="hunter2")).message == "code=5, password=[redacted]"
    for error in (
        ValueError(odd), KeyError(odd), OSError(odd), OSError(1, odd), ImportError(odd), SyntaxError(odd),
        SyntaxError("x", (odd, 1, 1, "")), SystemExit(odd), Told(odd),
    ):  # fmt: skip
        assert "<shop.Hostile object at 0x" in capture(error).message
    assert capture(OSError(2, "x", odd)).message == "(2, 'x')"
    decoding = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd")
    decoding.reason = odd
    capture(decoding)
    assert calls == []


def test_an_exception_that_lies_in_every_way_is_captured_without_a_call() -> None:
    error = BaseException.__new__(hostile(Exception, meta=Raisable), "x")
    local = object.__new__(hostile())
    held = {"a": local, "b": [error]}

    def raising() -> None:
        mine = (local, held)  # noqa: F841
        raise error

    try:
        raising()
    except ValueError:
        pass
    except BaseException:
        BaseException.__dict__["__dict__"].__get__(error)["__notes__"] = [local, "a note"]
        calls.clear()
        found = capture(error)
        place = place_of(error)
        assert calls == []
    assert found.type == "shop.Hostile"
    assert found.message == "x"
    assert found.frames[-1].locals["mine"].startswith("(<shop.Hostile object at 0x")
    assert found.notes[1] == "a note"
    assert place.endswith("raising")
    assert calls == []


def test_secrets_are_nowhere_in_what_is_encoded(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        '''
password = "hunter2"
class Config: pass
def connect(url, api_key, headers, options):
    token = "hunter2"
    pem = """-----BEGIN RSA PRIVATE KEY-----
hunter2
-----END RSA PRIVATE KEY-----"""
    secret = """
hunter2
"""; password = """hunter2"""; config = Config(); config.password = "hunter2"; pair = ("password", "hunter2")
    credentials = dict(
        x="hunter2",
        y=1 / 0)
connect("postgres://ann:hunter2@db/x", api_key="hunter2", headers={"Authorization": "hunter2"},
        options=["--password", "hunter2"])
'''
    )
    namespace: dict[str, Any] = {"__name__": "program"}
    error = caught(exec, compile(program.read_text(), str(program), "exec"), namespace)
    for inner in (ValueError("password=hunter2"), KeyError("postgres://a:hunter2@b"), RuntimeError(b"token=hunter2")):
        inner.add_note("api_key: hunter2")
        error = chain_of(inner, error) if error.__cause__ is None else chain_of(error, inner)
    group = ExceptionGroup("secret=hunter2", [error])  # type: ignore[list-item]
    for number in range(1, 9):
        data = encode(capture(group, limits=Limits(source=number)), 1 << 20)
        assert b"hunter2" not in data
        assert b"-----END" not in data
    assert b"connect(" in data and b"1 / 0" not in data
    whole = capture(group, limits=Limits(source=40))
    assert "hunter2" not in "\n".join(render(whole, locals=True))


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (["a = 1", "b = 2"], ["a = 1", "b = 2"]),
        (["if token:", "    go(token)"], ["if token:", "    go(token)"]),
        (['password = "x"', "b"], ["password = [redacted]", "b"]),
        (["password = (", '  "x"', ")", "b"], ["password = [redacted]", "[redacted]", "[redacted]", "b"]),
        (["password = \\", '  "x"', "b"], ["password = [redacted]", "[redacted]", "b"]),
        (["f(password=", '  "x"', ")"], ["f(password=", "[redacted]", ")"]),
        (['token = f"""x', "y", 'z"""', "b"], ["token = [redacted][redacted]", "[redacted]", "[redacted]", "b"]),
        (['x("api_key", "y", "z")'], ['x("api_key", [redacted], "z")']),
        (['"secret": [  # why', '"x"]', "b"], ['"secret": [redacted]', "[redacted]", "b"]),
        (["k = '''-----BEGIN PRIVATE KEY-----", "x", "-----END PRIVATE KEY-----", "b"], None),
    ],
)  # fmt: skip
def test_secrets_over_several_source_lines_are_taken_out(lines: list[str], shown: list[str] | None) -> None:
    found = sources.without_secrets(lines, 0)
    assert len(found) == len(lines)
    if shown is None:
        assert found[1:] == ["[redacted]", "[redacted]", "b"]
    else:
        assert found == shown
    assert sources.without_secrets(lines, 1) == found[1:]


def made(path: Path, text: str) -> types.CodeType:
    path.write_text(text)
    return compile(text, str(path), "exec")


def test_no_source_of_a_file_that_is_gone_changed_huge_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "def work():\n    return 1 / 0\n"
    path = tmp_path / "work.py"
    namespace: dict[str, Any] = {}
    exec(made(path, text), namespace)
    error = caught(namespace["work"])

    def source() -> list[str]:
        sources._cached.clear()
        return [line for _, line in capture(error).frames[-1].source]

    assert source() == ["def work():", "    return 1 / 0"]
    path.write_text("\n\n\n" + text)
    assert source() == []
    path.write_text("x" * 100)
    assert source() == []
    path.write_text(text + "# a comment\n" * (sources._LARGEST_FILE // 10))
    assert source()[:2] == ["def work():", "    return 1 / 0"]
    path.write_text(f"def work():{' ' * 1_000_000}\n    return 1 / 0\n")
    assert len("".join(source())) < 1000
    path.write_bytes(b"def work(): # \xff\xfe\n    return 1 / 0\n")
    encode(capture(error), 4096)
    path.unlink()
    assert source() == []
    __import__("os").mkfifo(path)
    assert source() == []


def test_a_loader_is_not_asked_for_source(monkeypatch: pytest.MonkeyPatch) -> None:
    import linecache

    class Loader:
        get_source = trap("get_source")

    namespace: dict[str, Any] = {"__loader__": Loader(), "__name__": "m"}
    exec(compile("def work():\n    return 1 / 0\n", "zipped/m.py", "exec"), namespace)
    linecache.lazycache("zipped/m.py", namespace)
    found = capture(caught(namespace["work"]))
    assert found.frames[-1].source == ()
    assert calls == []
    lines = ["def work():\n", "    return 1 / 0\n"]
    monkeypatch.setitem(linecache.cache, "zipped/m.py", (1, None, lines, "zipped/m.py"))
    assert capture(caught(namespace["work"])).frames[-1].source == ((1, "def work():"), (2, "    return 1 / 0"))


def test_source_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    error = caught(fails, 1)
    first = capture(error)
    monkeypatch.setattr(sources, "_from_file", trap("_from_file"))
    assert capture(error) == first
    assert calls == []


def deeper(number: int) -> int:
    held = [number]
    return deeper(number + 1) + held[0]


def test_a_recursion_of_thousands_keeps_both_ends() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(5000)
    try:
        error = caught(deeper, 0)
    finally:
        sys.setrecursionlimit(limit)
    found = capture(error)
    assert found.type == "RecursionError"
    assert len(found.frames) == 40 and found.frames_cut > 4000 and found.cut_after == 10
    lines = render(found)
    assert f"  [{found.frames_cut} frames not recorded]" in lines
    assert found.frames[9].locals["held"] == "[8]"  # the first frame is the one that caught it
    assert int(found.frames[-2].locals["number"]) == found.frames_cut + 37
    small = decode(encode(found, 2000))
    assert len(small.frames) + small.frames_cut == len(found.frames) + found.frames_cut


def test_capture_at_the_very_end_of_the_stack_survives() -> None:
    captured: list[CapturedError] = []

    def deep(number: int) -> None:
        try:
            deep(number + 1)
        except RecursionError as error:
            captured.append(capture(error))
            raise

    assert isinstance(caught(deep, 0), RecursionError)
    # With room for no further call at all, not even the type can be put into a record.
    assert {found.type for found in captured} <= {"RecursionError", "?"}
    assert [found for found in captured if found.frames]


def test_the_budget_is_shared_and_the_innermost_frames_come_first() -> None:
    def level(number: int) -> None:
        text = f"{number} {'x' * 300}"  # noqa: F841
        if number == 0:
            raise ValueError
        level(number - 1)

    limits = Limits(bytes=2000, value=Budget(string=300))
    found = capture(caught(level, 30), limits=limits)
    sizes = [sum(map(len, frame.locals.values())) for frame in found.frames]
    assert sum(sizes) <= 2000
    assert found.frames[-1].locals["text"].startswith("'0 xxx")
    assert found.frames[1].locals == {} and found.frames[1].cut == 3
    few = capture(caught(level, 30), limits=Limits(nodes=10))
    assert sum([len(frame.locals) for frame in few.frames]) <= 11
    one = capture(caught(fails, 1), limits=Limits(locals=1)).frames[-1]
    assert (list(one.locals), one.cut) == (["value"], 1)


def test_a_megabyte_in_each_local_stays_small() -> None:
    big = ["x" * 1_000_000 for _ in range(20)]
    found = capture(caught(fails, big))
    assert len(encode(found, 1 << 20)) < 20_000
    assert len(capture(ValueError("y" * 1_000_000)).message) < 2200


def test_causes_contexts_cycles_and_groups() -> None:
    first, second = ValueError("1"), KeyError("2")
    first.__cause__, second.__cause__ = second, first
    found = capture(first)
    assert found.cause is not None and found.cause.cause is not None
    assert found.cause.cause.message == "[the same one again]"
    suppressed = RuntimeError("3")
    suppressed.__context__, suppressed.__suppress_context__ = first, True
    assert capture(suppressed).context is None
    suppressed.__suppress_context__ = False
    context = capture(suppressed).context
    assert context is not None and context.message == "1"
    long = chain_of(*[ValueError(str(number)) for number in range(100)])
    depth, link = 0, capture(long)
    while link.cause is not None:
        depth, link = depth + 1, link.cause
    assert depth == 8 and link.notes == ("[its causes were not recorded]",)
    group = ExceptionGroup("g", [ValueError(str(number)) for number in range(50)])
    wide = capture(group)
    assert len(wide.exceptions) == 10 and wide.exceptions_cut == 40
    assert "    | [40 more not recorded]" in render(wide)
    nested: Any = ValueError()
    for _ in range(200):
        nested = ExceptionGroup("g", [nested, ValueError()])
    encode(capture(nested), 1 << 20)


def test_notes_of_any_kind() -> None:
    error = ValueError()
    for number in range(20):
        error.add_note(f"note {number}")
    assert capture(error).notes[15:] == ("note 15", "... [4 more]")
    error.__notes__ = 5  # type: ignore[assignment]
    assert capture(error).notes == ("5",)


def test_a_module_shows_its_data_and_a_class_body_what_can_be_asked() -> None:
    class Namespace(dict):  # type: ignore[type-arg]
        __setitem__ = trap("__setitem__")

        def __getitem__(self, name: str) -> Any:
            if name in ("__name__", "print", "__build_class__", "ZeroDivisionError"):
                raise KeyError(name)
            return trap("__getitem__")()

    found = capture(caught(exec, "import json\nx = 5\nclass C: pass\ndef f(): pass\n1 / 0", {}))
    assert found.frames[-1].locals == {"x": "5"}
    assert found.frames[-1].cut >= 3
    spaced = Namespace()
    error = caught(exec, "1 / 0", {}, spaced)
    capture(error)
    assert calls == []


def test_nothing_is_kept_alive() -> None:
    class Thing:
        pass

    class Mistake(ValueError):
        pass

    gone: list[Any] = []

    def worker() -> None:
        for _ in range(2):
            thing = Thing()
            gone.append(weakref.ref(thing))
            try:
                raise Mistake(thing)
            except Mistake as error:
                gone.append(weakref.ref(error))
                capture(error)
            del thing
            # This frame goes on: what it let go of must be gone now, though its locals were looked at.
            assert [found() for found in gone] == [None] * len(gone)

    gc.disable()
    try:
        worker()
    finally:
        gc.enable()
    assert len(gone) == 4


def test_what_the_program_asked_of_its_locals_stays() -> None:
    def worker() -> dict[str, Any]:
        number = 5
        mine = locals()
        try:
            raise ValueError(number)
        except ValueError as error:
            capture(error)
        return mine

    assert worker()["number"] == 5


def test_capture_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    error = caught(fails, 1)
    for raised, message in ((MemoryError, "[no room to read it]"), (RuntimeError, "[unreadable]")):

        def broken(*_args: object, raised: type[Exception] = raised) -> None:
            raise raised

        with monkeypatch.context() as patch:
            patch.setattr(capturing._Capture, "_frames", broken)
            assert capture(error) == CapturedError("ValueError", message)
        with monkeypatch.context() as patch:
            patch.setattr(capturing._Capture, "_locals", broken)
            found = capture(error)
            assert found.frames[-1].locals == {} and found.frames[-1].function == "fails"
    assert place_of(ValueError()) == ""


def test_type_names_are_as_python_prints_them() -> None:
    assert type_name(ValueError) == "ValueError"
    assert type_name(json.JSONDecodeError) == "json.decoder.JSONDecodeError"


# Bytes.


def large() -> CapturedError:
    def level(number: int, text: str = 'é"\\' * 40) -> None:
        other = {"text": text, "number": number}  # noqa: F841
        if number == 0:
            raise ExceptionGroup("many", [caught(fails, number) for number in range(5)])  # type: ignore[misc]
        level(number - 1)

    error = caught(level, 60)
    error.__cause__ = caught(deeper, 0)
    error.add_note("a note " * 100)
    return capture(error)


def test_encoding_goes_there_and_back() -> None:
    for error in (capture(caught(fails, 1)), large(), CapturedError("T", "")):
        assert decode(encode(error, 1 << 20)) == error


def test_encoded_bytes_keep_any_limit_and_stay_readable() -> None:
    error = large()
    whole = len(encode(error, 1 << 20))
    seen = set()
    for limit in [*range(512, 4096, 64), *range(4096, whole + 1, 997), whole]:
        data = encode(error, limit)
        assert len(data) <= limit
        found = decode(data)
        seen.add(len(data))
        assert (found.type, found.message) == (error.type, error.message)
        assert len(found.frames) + found.frames_cut == len(error.frames) + error.frames_cut
        assert len(found.exceptions) + found.exceptions_cut == 5
    assert len(seen) > 8
    assert decode(encode(error, 700)).frames[-1].line == error.frames[-1].line


def test_source_goes_before_locals_and_locals_before_frames() -> None:
    error = large()
    whole = encode(error, 1 << 20)
    less = decode(encode(error, len(whole) - 1))
    assert [f.locals for f in less.frames] == [f.locals for f in error.frames]
    assert all([len(f.source) <= 1 for f in less.frames])
    middle = decode(encode(error, 12_000))
    assert len(middle.frames) == len(error.frames)
    assert all(
        [f.cut + len(f.locals) == g.cut + len(g.locals) for f, g in zip(middle.frames, error.frames, strict=True)]
    )


def test_the_least_limit_always_has_type_and_message() -> None:
    nasty = CapturedError(
        "shop.Error\"\\\x01é\U0001f600" * 200, "\x00\"\\\U0001f600" * 5000, frames_cut=1 << 62, exceptions_cut=1 << 62,
        frames=(Frame("/f\x01" * 3000, "g\"" * 3000, 1 << 40, ((1, "x" * 999),), {"n\x02" * 9: "v" * 999}, 5),) * 50,
        notes=("n" * 9999,) * 99, cause=CapturedError("x" * 9999, "y" * 9999),
    )  # fmt: skip
    found = decode(encode(nasty, 512))
    assert found.type.startswith("shop.Error") and found.message
    with pytest.raises(ValueError, match="give it 512"):
        encode(nasty, 10)


def test_what_was_typed_into_ipython_is_no_local_of_a_module() -> None:
    names = {
        "_ih": ["%env API x"],
        "In": ["secret text"],
        "_i12": "secret text",
        "_i": "x",
        "_": 1,
        "__": 2,
        "Out": {1: 2},
    }
    space = {**names, "data": 7, "_own": 8}
    try:
        exec(compile("1 / 0", "<cell>", "exec"), space)
    except ZeroDivisionError as error:
        found = capture(error)
    assert dict(found.frames[-1].locals) == {"data": "7", "_own": "8"}
