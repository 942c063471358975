"""What the tests of notebooks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kernels import Kernel
from support import ROOT, need


@pytest.fixture
def jupyter(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jupyter's and IPython's directories, empty; returns IPython's."""
    need("notebooks", "IPython", "ipykernel", "jupyter_client", "nbclient", "nbformat")
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path / "IPYTHONDIR"


@pytest.fixture
def kernel(jupyter: Path) -> Iterator[Callable[[], Kernel]]:
    """Start kernels; all are ended."""
    kernels: list[Kernel] = []

    def start() -> Kernel:
        kernels.append(Kernel())
        return kernels[-1]

    yield start
    for started in kernels:
        started.close()
