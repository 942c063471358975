"""One tar of everything about a process: whole when it comes from here, refused when it is a trap."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from examples import rich
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import Program

import mmstats
from mmdebug import bundle, manifest
from mmdebug.diagnosis import Cause, Verdict
from mmdebug.manifest import MAX_MEMBER, BundleError, Manifest, Member
from mmdebug.outfile import OutputError, private_file
from mmdebug.postmortem import PostMortem

VICTIM = """
import sys, mmstats
class S(mmstats.MmStats):
    jobs = mmstats.CounterField(help="Jobs done")
    last = mmstats.CounterField(help="Zero, and at the end of the file")
stats = S(service="worker")
stats.jobs.inc(3)
print("ready")
sys.stdin.read()
"""

VERDICT = Verdict("died", "It was killed.", (Cause("killed", "SIGKILL", "likely", ("a",), ("b", "c")),), 5, None)


@pytest.fixture
def dead(run: Callable[..., Program], home: Path) -> PostMortem:
    """A worker that was killed, with its sidecars, and a sibling that lives."""
    victim = run(VICTIM)
    victim.line()
    victim.kill()
    path = next(home.glob("worker-*.mmstats"))
    path.with_suffix(".box").write_bytes(b"box" + bytes(5000) + b"end" + bytes(9000))
    path.with_suffix(".fault").write_text("Fatal Python error: Segmentation fault\n")
    run(VICTIM).line()
    stats = mmstats.read(path)
    siblings = tuple([s for s in mmstats.read_all(home).values() if s.path != stats.path])
    return PostMortem(stats.path, stats.process, VERDICT, stats, siblings=siblings)


def temporaries(where: Path) -> list[str]:
    return sorted(path.name for path in where.iterdir())


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where bundles are unpacked."""
    where = tmp_path / "scratch"
    where.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(where))
    return where


@pytest.mark.parametrize("name", ["out.tar", "out.tar.gz", "out.tgz"])
def test_what_was_saved_comes_out_again(dead: PostMortem, tmp_path: Path, scratch: Path, name: str) -> None:
    out = tmp_path / name
    saved = bundle.save(dead, str(out))
    assert bundle.is_bundle(str(out))
    assert len(saved.members) == 4
    with bundle.opened(str(out)) as found:
        assert found.manifest == saved
        assert found.manifest.verdict == VERDICT
        assert found.life.alive is False and "no such process" in found.life.reason
        for ending in (".mmstats", ".box", ".fault"):
            original = Path(dead.path).with_suffix(ending).read_bytes()
            assert Path(found.path).with_suffix(ending).read_bytes() == original
        copy = mmstats.read(found.path)
        assert copy["jobs"].value == 3 and copy["last"].value == 0 and not copy.problems
        assert sorted(life.alive for life in found.lives.values()) == [False, False, False, True]
        assert stat.S_IMODE(os.stat(os.path.dirname(found.path)).st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in Path(found.path).parent.iterdir()} == {0o600}
    assert temporaries(scratch) == []


def test_holes_take_no_room(dead: PostMortem, tmp_path: Path) -> None:
    out = tmp_path / "out.tgz"
    bundle.save(dead, str(out))
    assert out.stat().st_size < 32768
    with bundle.opened(str(out)) as found:
        assert os.stat(found.path).st_size == os.stat(dead.path).st_size


def test_a_bundle_is_for_nobody_else_and_replaces_nothing_unasked(dead: PostMortem, tmp_path: Path) -> None:
    out = tmp_path / "out.tar"
    bundle.save(dead, str(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    before = out.read_bytes()
    with pytest.raises(OutputError, match="--force"):
        bundle.save(dead, str(out))
    assert out.read_bytes() == before
    bundle.save(dead, str(out), force=True)
    assert out.read_bytes() != before
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []


def test_any_tar_program_can_read_it(dead: PostMortem, tmp_path: Path) -> None:
    out = tmp_path / "out.tar.gz"
    bundle.save(dead, str(out))
    with tarfile.open(out) as tar:
        names = tar.getnames()
        document = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert names[0] == "manifest.json" and document["target"] in names
    assert document["schema"] == 1 and document["members"][0]["alive"] is False


def test_a_file_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    with pytest.raises(ZeroDivisionError), private_file(str(out)) as file:  # noqa: PT012
        file.write(b"half")
        raise ZeroDivisionError
    assert list(tmp_path.glob("*page*")) == [] and list(tmp_path.glob(".*page*")) == []
    with pytest.raises(OutputError, match="can't be written"), private_file(str(tmp_path / "no" / "page")):
        pass


def test_of_two_that_write_the_same_file_the_later_one_is_told(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    with pytest.raises(OutputError, match="is there already"), private_file(str(out)) as file:  # noqa: PT012
        file.write(b"mine")
        out.write_bytes(b"theirs")
    assert out.read_bytes() == b"theirs"


def test_a_bundle_needs_the_stat_file_and_nothing_else(dead: PostMortem, tmp_path: Path) -> None:
    for ending in (".box", ".fault"):
        Path(dead.path).with_suffix(ending).unlink()
    for sibling in dead.siblings:
        os.unlink(sibling.path)
    assert len(bundle.save(dead, str(tmp_path / "a.tar")).members) == 1
    os.unlink(dead.path)
    with pytest.raises(BundleError):
        bundle.save(dead, str(tmp_path / "b.tar"))
    assert not (tmp_path / "b.tar").exists()


def test_sidecars_that_are_links_are_not_followed(dead: PostMortem, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    box = Path(dead.path).with_suffix(".box")
    box.unlink()
    box.symlink_to(secret)
    bundle.save(dead, str(tmp_path / "a.tar"))
    assert b"hunter2" not in (tmp_path / "a.tar").read_bytes()


def test_at_most_twenty_siblings_go_along(dead: PostMortem, tmp_path: Path) -> None:
    many = PostMortem(dead.path, dead.process, VERDICT, dead.stats, siblings=dead.siblings * 30)
    assert len(bundle.save(many, str(tmp_path / "a.tgz")).members) == 3 + bundle.MAX_SIBLINGS


def test_odd_names_of_files_become_safe_ones(dead: PostMortem, tmp_path: Path, home: Path) -> None:
    odd = home / "..évil \x1b[2J name"
    odd.write_bytes(Path(dead.path).read_bytes())
    stats = mmstats.read(odd)
    saved = bundle.save(PostMortem(str(odd), stats.process, VERDICT, stats), str(tmp_path / "a.tar"))
    assert manifest.valid_name(saved.target)
    with bundle.opened(str(tmp_path / "a.tar")) as found:
        assert mmstats.read(found.path)["jobs"].value == 3


# Tars that anybody may have made.

TARGET = "web-1-0badcafe.mmstats"


def announced(*members: tuple[str, int], target: str = TARGET, **changes: Any) -> bytes:
    """A manifest, whatever it says."""
    entries = tuple([Member(name, size, size, reason="gone", alive=False) for name, size in members])
    document = json.loads(manifest.encode(Manifest(target, 1, "host", VERDICT, entries)))
    return json.dumps({**document, **changes}).encode()


def tar_of(*members: tuple[Any, bytes], first: bytes | None = None) -> bytes:
    """A tar of a manifest and members, each a name or a `TarInfo`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in [("manifest.json", announced((TARGET, 4)) if first is None else first), *members]:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def begun() -> bytes:
    """A tar of which only the manifest has been written."""
    size = len(announced((TARGET, 4)))
    return tar_of()[: 512 + -(-size // 512) * 512]


def info(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def refused(tmp_path: Path, data: bytes) -> str:
    """Opening `data` is refused with a message of ours, and leaves nothing anywhere."""
    path = tmp_path / "hostile.tar"
    path.write_bytes(data)
    with pytest.raises(BundleError) as caught, bundle.opened(str(path)):
        pass
    assert temporaries(tmp_path / "scratch") == []
    assert sorted(os.listdir(tmp_path)) == ["hostile.tar", "scratch", "stats"]
    return str(caught.value)


def test_the_harmless_one_that_the_hostile_ones_are_made_from_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of((TARGET, b"data")))
    with bundle.opened(str(path)) as found:
        assert Path(found.path).read_bytes() == b"data"


@pytest.mark.parametrize(
    "name",
    ["../x.mmstats", "/tmp/x.mmstats", "a/b.mmstats", "..", ".hidden.mmstats", "x.py", "a\\b.mmstats", "a\nb.mmstats",
     "", "x" * 300 + ".mmstats", "\ud800.mmstats", "manifest.json"],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    assert "refused" in refused(tmp_path, tar_of(first=announced((TARGET, 4), (name, 1))))
    if name and name.isascii() and len(name) < 100:
        assert "refused" in refused(tmp_path, tar_of((name, b"evil")))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE,
     tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.CONTTYPE],
)  # fmt: skip
def test_what_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    header = info(TARGET, kind, "/etc/passwd").tobuf(tarfile.USTAR_FORMAT)
    assert "not a plain file" in refused(tmp_path, begun() + header + bytes(10240))


def test_members_that_were_not_announced_or_come_twice_are_refused(tmp_path: Path) -> None:
    both = announced((TARGET, 4), ("a.box", 1))
    assert "refused" in refused(tmp_path, tar_of(("other.box", b"evil"), (TARGET, b"data")))
    assert "refused" in refused(tmp_path, tar_of((TARGET, b"data"), (TARGET, b"evil"), first=both))
    assert "refused" in refused(tmp_path, tar_of((TARGET, b"longer than announced")))


def test_sizes_beyond_the_limits_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    huge = info(TARGET, tarfile.REGTYPE)
    huge.size = 1 << 40
    header = huge.tobuf(tarfile.GNU_FORMAT)
    assert "over the limit" in refused(tmp_path, begun() + header + bytes(10240))
    assert "over the limit" in refused(tmp_path, tar_of(first=announced((TARGET, 1 << 40))))
    several = [(f"{i}.box", MAX_MEMBER) for i in range(3)]
    assert "together" in refused(tmp_path, tar_of(first=announced((TARGET, 4), *several)))
    many = [(f"{i}.box", 0) for i in range(1000)]
    assert "too long" in refused(tmp_path, tar_of(first=announced((TARGET, 4), *many)))
    first = info("manifest.json", tarfile.REGTYPE)
    first.size = 1 << 30
    assert "over the limit" in refused(tmp_path, first.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    first.size = 2 << 20
    assert "does not begin with a manifest" in refused(tmp_path, first.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(tmp_path: Path) -> None:
    huge = info(TARGET, tarfile.REGTYPE)
    huge.size = MAX_MEMBER + 1
    bomb = gzip.compress(begun() + huge.tobuf(tarfile.GNU_FORMAT) + bytes(MAX_MEMBER + 512))
    assert len(bomb) < 1 << 17
    assert "over the limit" in refused(tmp_path, bomb)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 10240,
        b"garbage" * 1000,
        b"\x1f\x8b",
        b"\x1f\x8b" + b"x" * 100,
        gzip.compress(b"not a tar" * 100, mtime=0),
    ],
)
def test_what_is_no_tar_is_refused(tmp_path: Path, data: bytes) -> None:
    assert refused(tmp_path, data)


def test_a_tar_without_a_manifest_at_its_begin_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(info(TARGET, tarfile.REGTYPE))
    assert "does not begin with a manifest" in refused(tmp_path, out.getvalue())


def test_a_cut_off_tar_is_refused(dead: PostMortem, tmp_path: Path, scratch: Path) -> None:
    out = tmp_path / "out.tar"
    bundle.save(dead, str(out))
    whole = out.read_bytes()
    packed = gzip.compress(whole, mtime=0)
    for data, cuts in ((whole, (1, 600, 3000, 40000, len(whole) // 2)), (packed, (1, 15, 200, len(packed) - 300))):
        for cut in cuts:
            out.write_bytes(data[:cut])
            with pytest.raises(BundleError), bundle.opened(str(out)):
                pass
            assert temporaries(scratch) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"bundle": "other"}, {"schema": 2}, {"schema": None}, {"members": 5}, {"members": [5]}, {"members": []},
        {"members": [{}]}, {"target": "other.mmstats"}, {"target": 5}, {"saved": -1}, {"saved": True},
        {"saved": 10**40}, {"host": ["x"]}, {"host": "x" * 100000}, {"verdict": None}, {"verdict": {}},
        {"verdict": {"state": "lovely", "summary": "", "causes": [], "after": None, "before": None}},
        {"verdict": {"state": "died", "summary": "", "causes": [{}], "after": None, "before": None}},
        {"verdict": {"state": "died", "summary": "", "causes": [], "after": 1.5, "before": None}},
    ],
)  # fmt: skip
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert refused(tmp_path, tar_of((TARGET, b"data"), first=announced((TARGET, 4), **changes)))


@pytest.mark.parametrize(
    "entry", [{"alive": 1}, {"alive": "yes"}, {"size": "4"}, {"whole": 3}, {"notes": "x"}, {"name": 4}]
)
def test_a_member_that_makes_no_sense_is_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    document = json.loads(announced((TARGET, 4)))
    document["members"][0].update(entry)
    assert refused(tmp_path, tar_of((TARGET, b"data"), first=json.dumps(document).encode()))


@pytest.mark.parametrize("data", [b"", b"[" * 100000, b"nonsense", b"\xff\xfe", b"[]", b'{"a": ' + b"9" * 10000 + b"}"])
def test_a_manifest_that_is_no_json_is_refused(tmp_path: Path, data: bytes) -> None:
    assert refused(tmp_path, tar_of(first=data))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_bundle_is_opened_or_refused_and_nothing_else(tmp_path: Path, data: Any) -> None:
    """Whatever bytes change, nothing is written but within the private directory, and that is gone afterwards."""
    whole = bytearray(tar_of((TARGET, b"data")))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 3000))
        whole[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzzed.tar"
    path.write_bytes(whole)
    try:
        with bundle.opened(str(path)) as found:
            assert os.path.dirname(os.path.dirname(found.path)) == str(tmp_path / "scratch")
    except BundleError:
        pass
    assert temporaries(tmp_path / "scratch") == []
    assert sorted(os.listdir(tmp_path)) == ["fuzzed.tar", "scratch", "stats"]


def test_a_manifest_survives_being_written_and_read() -> None:
    verdict = rich(lambda text: f"{text}\x00\ud800é").verdict
    whole = Manifest(TARGET, 1 << 62, "h", verdict, (Member(TARGET, 1, 2, "/p\udcff", None, "r", ("n",)),))
    assert manifest.decode(manifest.encode(whole)) == whole
