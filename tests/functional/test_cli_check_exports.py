"""`periop check` while an export is in progress: it starts none, and tries the first file as a sync would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from connectors.sources.bulk.job_file import Job, JobFile
from tests.functional.test_cli_check import Terminal, checked, levels, said
from tests.vendor_matrix import TYPES, filled
from tests.vendor_server import GROUP, VendorServer, vendor_server

SITE = '[[sites]]\nname = "milan"\nkind = "bulk"\nurl = "{url}"\nlevel = "group"\ngroup = "{group}"\n'
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@contextmanager
def in_progress(name: str, periop: Terminal, origins: bool = True) -> Iterator[VendorServer]:
    """A server of this vendor with an export that a sync has begun."""
    with vendor_server(name, TYPES) as server:
        filled(server)
        allowed = f'allowed_origins = ["{server.storage.origin}"]\n' if origins else ""
        periop.configure(SITE.format(url=server.base, group=GROUP) + allowed)
        begun = httpx.get(f"{server.base}/Group/{GROUP}/$export?_type=Patient,Condition", trust_env=False)
        remember(periop, Job(begun.headers["content-location"], None, NOW.isoformat(), types=("Patient", "Condition")))
        yield server


def remember(periop: Terminal, job: Job) -> None:
    JobFile(periop.folder / "periop-data" / "jobs" / f"milan-{'0' * 32}.json").save(job)


@pytest.fixture
def periop(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.mark.parametrize("name", ["hapi", "oracle_health"])
def test_fault_58_the_first_file_of_an_export_in_progress_is_tried(periop: Terminal, name: str) -> None:
    with in_progress(name, periop) as server:
        checked(periop)  # of HAPI the first poll is answered with 202
        code, site = checked(periop)
        assert said(site, "files") == "an export is ready, and its first file (Patient file) is given"
        assert (code, site["path"]["transfer"]) == (0, "bulk export")
        assert len(server.http.asked(path="$export")) == 1  # that of the test


def test_fault_58_what_a_sync_would_not_get_is_said_before(periop: Terminal) -> None:
    with in_progress("oracle_health", periop, origins=False) as server:
        code, site = checked(periop)
        assert (code, levels(site)["files", None]) == (1, "missing")
        assert said(site, "files").endswith("if its files lie there, add it to `allowed_origins`")
        assert server.storage.requests == []
    with in_progress("azure", periop) as server:
        checked(periop)
        _, site = checked(periop)
        assert said(site, "files").startswith(f"{server.storage.origin} does not give the files of the export (404)")


def test_fault_58_an_export_that_is_not_ready_is_left_alone(periop: Terminal) -> None:
    with in_progress("firely", periop) as server:
        assert said(checked(periop)[1], "files") == "the server prepares an export: the next sync goes on with it"
        polls = len(server.http.asked(path="/job/"))
        job = JobFile.of_site(periop.folder / "periop-data" / "jobs", "milan")[0].load()
        assert job is not None
        remember(periop, replace(job, not_before="2999-01-01T00:00:00+00:00"))
        assert said(checked(periop)[1], "files").endswith("not earlier than the server asked for")
        assert len(server.http.asked(path="/job/")) == polls
        remember(periop, Job(f"{server.base}/job/99", None, NOW.isoformat(), types=("Patient",)))
        assert said(checked(periop)[1], "files").endswith("(404): the next sync asks for a new one")
