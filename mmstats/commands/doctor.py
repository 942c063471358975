"""Look for what would keep stats from being recorded or read here, and say what to do about it."""

from __future__ import annotations

import argparse
import glob
import os
import re
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from mmstats import cells, directory, fleet, process, registry
from mmstats.errors import ConfigurationError

from . import text, version
from .console import Console

HELP = "check this machine's set-up and say what to do"

#: File systems on which memory-mapped files behave badly, by the types of /proc/mounts.
NETWORK = frozenset(["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "glusterfs", "fuse.glusterfs"])
MEMORY = frozenset(["tmpfs", "ramfs", "devtmpfs"])
LITTLE_ROOM = 4 << 20


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: `state` is ok, warn or fail; `advice` says what to do, if there is anything."""

    name: str
    state: str
    finding: str
    advice: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(options: argparse.Namespace, console: Console) -> int:
    checks = list(examine(options.path))
    failed = any(check.state == "fail" for check in checks)
    if options.json:
        found = [{"name": c.name, "state": c.state, "finding": c.finding, "advice": c.advice} for c in checks]
        console.json("doctor", {"version": version("mmstats"), "checks": found})
        return 1 if failed else 0
    console.line(version("mmstats"))
    rows = []
    for check in checks:
        rows.append((check.name, check.state, text.printable(check.finding)))
        if check.advice:
            rows.append(("", "", f"-> {check.advice}"))
    console.table(("CHECK", "STATE", "FINDING"), rows)
    return 1 if failed else 0


def examine(path: str | None = None) -> Iterator[Check]:
    """All checks, in the order in which a person would ask."""
    yield implementation()
    yield interpreter()
    yield recording()
    home, check = place(path)
    yield check
    if home is not None:
        yield file_system(home)
        yield room(home)
        yield writing(home)
        yield from removal(home)
    yield locks()
    yield life()
    yield from settings()
    yield readable(path)


def implementation() -> Check:
    if cells.COMPILED:
        return Check("cells", "ok", "compiled: an increment costs less than calling an empty function")
    if os.environ.get("MMSTATS_PURE_PYTHON", "") not in ("", "0"):
        return Check("cells", "warn", "uncompiled, because MMSTATS_PURE_PYTHON is set", "unset it for full speed")
    advice = (
        "install a C compiler and Python's headers, then `pip install --force-reinstall --no-binary mmstats mmstats`"
    )
    return Check("cells", "warn", "uncompiled: everything works, five to twenty times slower", advice)


def interpreter() -> Check:
    name = f"{sys.implementation.name} {sys.version.split()[0]}"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return Check(
            "interpreter", "warn", f"{name}, free-threaded: the extension is not declared safe for it",
            "Python turns the GIL on when it is imported; don't force it off with PYTHON_GIL=0",
        )  # fmt: skip
    return Check("interpreter", "ok", name)


def recording() -> Check:
    if os.environ.get("MMSTATS_DISABLE", "") not in ("", "0"):
        return Check("recording", "warn", "off: MMSTATS_DISABLE is set", "unset it to see this process from outside")
    if sys.byteorder != "little":
        return Check("recording", "fail", "this machine is big-endian, and the file format is not")
    return Check("recording", "ok", "on")


def place(path: str | None) -> tuple[str | None, Check]:
    """Which directory writers use."""
    try:
        home = directory.prepare(path)
    except (OSError, ConfigurationError) as error:
        return None, Check("directory", "fail", str(error), "set MMSTATS_PATH to a directory that you may write to")
    origin = "--path" if path else "MMSTATS_PATH" if directory.configured() else "the default"
    found = os.stat(home)
    mode = stat.S_IMODE(found.st_mode)
    finding = f"{home} ({origin}, mode {mode:04o}, uid {found.st_uid})"
    if not os.access(home, os.W_OK | os.X_OK):
        advice = "have its owner let you write, or set MMSTATS_PATH to another one"
        return home, Check("directory", "fail", f"{finding}: you may not write there", advice)
    if mode & 0o002 and not mode & stat.S_ISVTX:
        advice = "fine where only your containers see it; elsewhere `chmod +t` keeps others from deleting your files"
        return home, Check("directory", "ok", f"{finding}, writable by all", advice)
    return home, Check("directory", "ok", finding)


def mount_of(path: str) -> tuple[str, str]:
    """The mount point and the type of the file system that `path` is on; empty if unknown."""
    real = os.path.realpath(path)
    best = ("", "")
    try:
        with open("/proc/mounts", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                fields = line.split()
                point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[1])
                inside = real == point or real.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best[0]):
                    best = (point, fields[2])
    except (OSError, IndexError):
        return best
    return best


def file_system(home: str) -> Check:
    point, kind = mount_of(home)
    if not kind:
        return Check("file system", "ok", "unknown")
    if kind in NETWORK:
        advice = "use a directory in memory: other machines' maps and locks can't be trusted over a network"
        return Check("file system", "fail", f"{kind} at {point}", advice)
    if kind in MEMORY:
        return Check("file system", "ok", f"{kind} at {point}, in memory")
    advice = "the kernel may stall a writer for a moment while it writes a page back; a tmpfs never does"
    return Check("file system", "warn", f"{kind} at {point}, on a disk", advice)


def room(home: str) -> Check:
    system = os.statvfs(home)
    total, free = system.f_blocks * system.f_frsize, system.f_bavail * system.f_frsize
    finding = f"{text.size(free)} free of {text.size(total)}"
    if system.f_files and not system.f_favail:
        return Check("room", "fail", f"{finding}, but no inodes", "delete files, or enlarge the file system")
    if free < registry.DEFAULT_LIMIT:
        advice = "`mmstats prune` deletes files of dead processes; or enlarge the file system"
        return Check("room", "fail", f"{finding}: not enough for one more process", advice)
    if free < LITTLE_ROOM:
        return Check("room", "warn", finding, "`mmstats prune`, or enlarge the file system")
    return Check("room", "ok", finding)


def writing(home: str) -> Check:
    """Really make a file there, reserve a page of it, and delete it."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=".mmstats-doctor-", dir=home)
    except OSError as error:
        return Check("writing", "fail", f"no file can be made: {error.strerror}", "check mounts, quotas and modes")
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, 4096)
        locked = process.lock(descriptor)
    except OSError as error:
        return Check("writing", "fail", f"no space can be reserved: {error.strerror}", "enlarge the file system")
    finally:
        os.close(descriptor)
        os.unlink(name)
    return Check("writing", "ok", "files can be made" + (" and locked" if locked else ""))


def removal(home: str) -> Iterator[Check]:
    """Who might delete files behind our back: systemd, when a user's last session ends."""
    if not home.startswith(directory.SHARED_MEMORY) or not os.path.isdir("/run/systemd/system") or os.getuid() == 0:
        return
    if 0 < os.getuid() < 1000:
        return  # RemoveIPC leaves system users alone
    setting = "yes"
    for name in ["/etc/systemd/logind.conf", *sorted(glob.glob("/etc/systemd/logind.conf.d/*.conf"))]:
        try:
            with open(name, encoding="utf-8", errors="replace") as file:
                for line in file:
                    found = re.match(r"\s*RemoveIPC\s*=\s*(\w+)", line)
                    setting = found[1].lower() if found else setting
        except OSError:
            continue
    if setting in ("no", "false", "0", "off"):
        yield Check("systemd", "ok", "RemoveIPC=no")
        return
    advice = "run as a service with RuntimeDirectory= and RuntimeDirectoryPreserve=yes, and point MMSTATS_PATH there"
    yield Check("systemd", "warn", "RemoveIPC deletes your files in /dev/shm when your last session ends", advice)


def locks() -> Check:
    descriptor, name = tempfile.mkstemp(prefix="mmstats-doctor-")
    other = -1
    try:
        works = process.lock(descriptor)
        other = os.open(name, os.O_RDONLY)
        works = works and process.lock_held(other) is True
    finally:
        os.close(descriptor)
        if other >= 0:
            os.close(other)
        os.unlink(name)
    if works:
        return Check("locks", "ok", "open-file-description locks tell the living from the dead")
    advice = "whether a process lives is then told by its pid and start time alone, within this pid namespace"
    return Check("locks", "warn", "this system has no open-file-description locks", advice)


def life() -> Check:
    me = process.myself()
    if me.start_ticks and any(me.boot_id) and me.pid_namespace:
        return Check("identity", "ok", "start time, boot and pid namespace can be told")
    missing = [
        name
        for name, known in (
            ("start time", me.start_ticks), ("boot id", any(me.boot_id)), ("pid namespace", me.pid_namespace)
        )
        if not known
    ]  # fmt: skip
    return Check("identity", "warn", f"unknown here: {', '.join(missing)}", "mount /proc to tell them")


def settings() -> Iterator[Check]:
    """Environment variables that can't be used as they stand."""
    for probe in (directory.file_mode, registry.disk_limit):
        try:
            probe()
        except ConfigurationError as error:
            yield Check("settings", "fail", str(error), "recording falls back to private memory until it is mended")


def readable(path: str | None) -> Check:
    """What a reader finds."""
    found = fleet.read_all(path)
    finding = f"{len(found)} processes, {len(found.alive)} of them alive"
    if found.problems:
        first = next(iter(found.problems.values()))
        advice = "files that can't be read don't hurt; delete them if they are no longer needed"
        return Check("files", "warn", f"{finding}; {len(found.problems)} can't be read, such as {first}", advice)
    return Check("files", "ok", finding)
