"""Numbers, times and names as people read them. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.:-=+*#"


def printable(text: str) -> str:
    """`text` without what would move a terminal's cursor or change its colours."""
    return "".join([c if c.isprintable() else repr(c)[1:-1] for c in text])


def age(seconds: float | None) -> str:
    """A span of time in its two largest units: ``3d 4h``, ``12m 5s``, ``40 s``."""
    if seconds is None:
        return "-"
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    for unit, size, smaller, small in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // small}{smaller}"
    return f"{whole}s"


def size(count: float) -> str:
    """Bytes with a unit: ``24 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if count == int(count) or unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    """Seconds in a fitting unit: ``12.3 ms``."""
    if seconds == 0:
        return "0 s"
    for unit, factor in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if abs(seconds) >= factor:
            return f"{seconds / factor:.3g} {unit}" if abs(seconds) < 1000 else f"{seconds:,.0f} s"
    return f"{seconds / 1e-9:.3g} ns"


def number(value: object, unit: str = "") -> str:
    """A number with its unit; texts and flags as they are; ``-`` for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        if unit in ("seconds", "second", "s"):
            return duration(value)
        if unit in ("bytes", "byte") and value == value and abs(value) != float("inf"):
            return size(value)
        text = f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if _whole(value) else f"{value:.6g}"
        return f"{text} {unit}" if unit else text
    if isinstance(value, dict):
        return ", ".join(f"{name}={number(item)}" for name, item in value.items()) or "-"
    return printable(str(value)) or "-"


def _whole(value: float) -> bool:
    return value == value and abs(value) < 1e15 and value == int(value)


def bar(counts: Sequence[int], ascii_only: bool = False) -> str:
    """A histogram's buckets as a row of blocks, one for each."""
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    most = max(counts, default=0)
    if not most:
        return ""
    return "".join([blocks[-(-count * (len(blocks) - 1) // most)] if count else " " for count in counts]).rstrip()
