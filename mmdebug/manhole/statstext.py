"""This process' stats as lines for a person."""

from __future__ import annotations

from importlib import import_module

from mmstats.errors import MmStatsError

from .files import stats_path


def render() -> str:
    """One line a value, as the stat file has it now."""
    path = stats_path()
    if path is None:
        return "# this process has no stat file: what it records stays in its own memory\n"
    try:
        # The one thing that is imported when it is asked for: nothing else needs so much memory for so little.
        reader, values = import_module("mmstats.reader"), import_module("mmstats.values")
        lines = []
        for name, family in reader.read(path).items():
            if isinstance(family, values.LabelledValue):
                for labels, value in family.items():
                    lines.append(f"{name}{{{','.join(labels)}}}  {values.plain(value.value)}")
            else:
                lines.append(f"{name}  {values.plain(family.value)}")
    except (MmStatsError, OSError, ImportError) as error:
        return f"# the stats can't be read: {error}\n"
    return "".join([f"{line}\n" for line in lines]) or "# there are no stats\n"
