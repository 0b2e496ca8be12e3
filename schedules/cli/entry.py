"""Begin the command `periop`: a Ctrl-C while its modules are still imported is one sentence too."""

from __future__ import annotations

import sys


def main() -> int:
    """Run `periop` with the arguments of the process and return the exit code."""
    try:
        from schedules.cli.main import main as run

        return run()
    except KeyboardInterrupt:  # in the middle of an import, or while another one is reported
        sys.stderr.write("periop: interrupted; completed work is kept, run again to continue\n")
        return 130
