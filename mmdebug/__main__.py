"""``python -m mmdebug``: the command line, also where no script was installed."""

from .commands import main

if __name__ == "__main__":
    raise SystemExit(main())
