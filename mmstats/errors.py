"""Every error that mmstats raises on purpose; each message says what to do about it."""

from __future__ import annotations


class MmStatsError(Exception):
    """Base of all errors of this package."""


class ReadError(MmStatsError):
    """A file could not be read at all: it is gone, not ours to open, or not a regular file."""


class FormatError(ReadError):
    """A file is not a stat file, is damaged beyond salvage, or is of a version we do not know."""


class ClosedError(MmStatsError, ValueError):
    """A field was touched after its model was removed."""


class DefinitionError(MmStatsError, ValueError):
    """A field's definition is wrong, or conflicts with an earlier one of the same name."""


class LabelError(MmStatsError, ValueError):
    """``labels()`` was called with the wrong number of values or with unknown names."""


class ConfigurationError(MmStatsError, ValueError):
    """A setting (an argument or an environment variable) cannot be used as it stands."""


class SegmentError(MmStatsError):
    """A stat file could not be created or extended; only raised where ``strict=True`` asks for it."""


class TargetError(MmStatsError):
    """A target on the command line names no stat file, or more than one."""
