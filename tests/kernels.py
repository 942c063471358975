"""Real notebooks and real kernels, for tests."""

from __future__ import annotations

import subprocess
import textwrap
from typing import Any

from support import wait_for

LOAD = "%load_ext mmdebug"


class Kernel:
    """A real kernel and a client of it."""

    def __init__(self) -> None:
        from jupyter_client.manager import KernelManager

        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.pid)  # type: ignore[union-attr, attr-defined]

    def run(self, code: str) -> list[Any]:
        """What a cell shows: printed texts, and dicts of what it displays."""
        shown: list[Any] = []

        def take(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                # What is printed in one go may come in several messages.
                shown.append((shown.pop() if shown and isinstance(shown[-1], str) else "") + content["text"])
            elif "data" in content:
                shown.append(content["data"])
            elif message["msg_type"] == "error":
                shown.append("\n".join(content["traceback"]))

        self.client.execute_interactive(textwrap.dedent(code), timeout=60, output_hook=take)
        return shown

    def begin(self, code: str) -> None:
        """Send a cell, and don't wait for its end."""
        self.client.execute(textwrap.dedent(code))

    def wait_for_output(self, text: str) -> None:
        """Wait until a cell has printed `text`."""
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["msg_type"] == "stream" and text in message["content"]["text"]:
                return

    def wait_for_death(self) -> None:
        wait_for(lambda: not self.manager.is_alive(), "the kernel's death")

    def kill(self) -> None:
        """SIGKILL it from outside, and wait until it is gone."""
        self.manager.signal_kernel(9)
        self.wait_for_death()

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        self.manager.context.destroy()


def notebook(*sources: str) -> Any:
    import nbformat

    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def execute(book: Any, *, allow_errors: bool = False) -> list[list[Any]]:
    """Run a notebook to its end; the outputs of its cells."""
    import nbclient

    nbclient.NotebookClient(book, timeout=60, kernel_name="python3", allow_errors=allow_errors).execute()
    return [cell.outputs for cell in book.cells]
