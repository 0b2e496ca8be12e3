"""Run the command line with `python -m schedules.cli`."""

from schedules.cli.entry import main

if __name__ == "__main__":
    raise SystemExit(main())
