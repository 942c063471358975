"""The few lines on a death for somebody who was just asking the process something."""

from __future__ import annotations

from mmstats.commands.text import printable

from ..postmortem import PostMortem
from . import content


def brief(found: PostMortem) -> str:
    """What speaks for the verdict, what was in flight, the last error; at the end the command that shows the rest.

    The verdict itself is what the error says that somebody has got.
    """
    lines = []
    for cause in found.verdict.causes[:1]:
        lines += [f"  + {item}" for item in cause.evidence[:3]]
    if found.activities:
        lines.append(f"In flight at the end: {len(found.activities)}")
        for activity in found.activities[-3:]:
            lines.append(f"  {activity.name} {content.fields(activity.fields.items())}".rstrip())
    for record in content.by_weight(found.exceptions)[:1]:
        message = record.error.message if record.error is not None else ""
        lines.append(f"Last error: {record.type}: {message[:200]}, at {record.place}")
    lines.append(f"All of it: {content.commands(found)[0][0].partition(' --html')[0]}")
    return "\n".join([printable(line) for line in lines])
