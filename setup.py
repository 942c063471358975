"""Builds the one optional extension; all metadata is in setup.cfg.

MMSTATS_EXTENSION=require   fail when it cannot be compiled, for those who build wheels
MMSTATS_EXTENSION=skip      do not compile it
"""

import os

from setuptools import Extension, setup

choice = os.environ.get("MMSTATS_EXTENSION", "")
cells = Extension("mmstats.cells", ["mmstats/cells.py"], optional=choice != "require")
setup(ext_modules=[] if choice == "skip" else [cells])
