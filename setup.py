"""Builds the optional extensions; all metadata is in setup.cfg.

MMSTATS_EXTENSION=require   fail when it cannot be compiled, for those who build wheels
MMSTATS_EXTENSION=skip      do not compile it
"""

import os

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

choice = os.environ.get("MMSTATS_EXTENSION", "")


class BuildOptional(build_ext):
    """setuptools' own ``optional`` lets a missing compiler through as an error of the system."""

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:
            if choice == "require":
                raise
            print(f"{ext.name} was not compiled and will run as Python: {error}")


def extensions() -> list[Extension]:
    if choice == "skip":
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if choice == "require":
            raise
        return []
    found = cythonize(
        [
            Extension(name, [name.replace(".", "/") + ".py"], extra_compile_args=["-O2", "-g0"])
            for name in ("mmstats.cells", "mmdebug.rings")
        ]
    )
    for extension in found:
        extension.optional = choice != "require"  # cythonize would have dropped it
    return found


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildOptional})
