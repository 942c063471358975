"""Builds the optional extensions; all metadata is in setup.cfg.

MMSTATS_EXTENSION=require   fail when it cannot be compiled, for those who build wheels
MMSTATS_EXTENSION=skip      do not compile it
"""

import os

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

choice = os.environ.get("MMSTATS_EXTENSION", "")


class BuildOptional(build_ext):
    """All extensions or none: they share classes, and one compiled can't build on one that is not.

    setuptools' own ``optional`` lets a missing compiler through as an error of the system.
    """

    def build_extensions(self) -> None:
        try:
            super().build_extensions()
        except Exception as error:
            if choice == "require":
                raise
            for ext in self.extensions:
                built = self.get_ext_fullpath(ext.name)
                if os.path.exists(built):
                    os.unlink(built)
            self.extensions = []
            print(f"nothing was compiled, and it will run as Python: {error}")


def extensions() -> list[Extension]:
    if choice == "skip":
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if choice == "require":
            raise
        return []
    return cythonize(
        [
            Extension(name, [name.replace(".", "/") + ".py"], extra_compile_args=["-O2", "-g0"])
            for name in ("mmstats.cells", "mmdebug.rings")
        ]
    )


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildOptional})
