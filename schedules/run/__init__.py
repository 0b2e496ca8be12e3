"""The nightly run: sync, map, analyze, publish; its lock, ledger and status."""
