"""Builds the one optional extension; all metadata is in setup.cfg.

MMSTATS_EXTENSION=require   fail when it cannot be compiled, for those who build wheels
MMSTATS_EXTENSION=skip      do not compile it
"""

import os

from setuptools import Extension, setup

choice = os.environ.get("MMSTATS_EXTENSION", "")


def extensions() -> list[Extension]:
    if choice == "skip":
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if choice == "require":
            raise
        return []
    return cythonize([Extension("mmstats.cells", ["mmstats/cells.py"], optional=choice != "require")])


setup(ext_modules=extensions())
