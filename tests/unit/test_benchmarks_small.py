"""The benchmarks of reading do what they say, on a few resources: every one is read, and the view's rows are right."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.flattening import VIEW, generate
from benchmarks.measuring import likely_share
from benchmarks.streaming_server import RESOURCES, everything, templates
from benchmarks.syncing import generate as generate_folder
from benchmarks.syncing import server, sync_folder, sync_server
from mappers.view.runner import ViewDefinition, run_view


def test_the_view_gives_what_stands_in_the_file(tmp_path: Path) -> None:
    generate(tmp_path / "doses.ndjson", 250, seed=3)
    lines = [json.loads(line) for line in (tmp_path / "doses.ndjson").read_text("utf-8").splitlines()]
    rows = run_view(ViewDefinition.load(VIEW), tmp_path / "doses.ndjson").to_dict("records")
    assert [
        (row["id"], row["patient"], row["status"], row["code"], row["start"], float(row["dose"])) for row in rows
    ] == [
        (
            line["id"],
            line["subject"]["reference"].removeprefix("Patient/"),
            line["status"],
            line["medicationCodeableConcept"]["coding"][0]["code"],
            line["effectivePeriod"]["start"],
            line["dosage"]["dose"]["value"],
        )
        for line in lines
    ]


def test_a_folder_and_a_server_are_read_whole(tmp_path: Path) -> None:
    names = {(kind, json.loads(text)["id"]) for kind, text in everything(templates(), 3)}
    assert len(names) == 3 * RESOURCES
    for name in ("files", "http"):
        (tmp_path / name).mkdir()
    assert generate_folder(tmp_path / "files" / "fhir", 3 * RESOURCES)["resources"] == len(names)
    first, second = (sync_folder(tmp_path / "files", len(names)) for _ in range(2))
    assert (first["status"], first["stored"]) == ("ok", len(names))
    assert (second["status"], second["identical"]) == ("ok", len(names))
    with server(3) as url:
        first, second = (sync_server(tmp_path / "http", len(names), url) for _ in range(2))
    assert (first["status"], first["stored"]) == ("ok", len(names))
    assert (second["status"], second["stored"]) == ("ok", 0)


def test_a_share_is_told_with_how_far_it_is_known() -> None:
    def rounds(*seconds: float) -> list[dict[str, float]]:
        return [{"seconds": each} for each in seconds]

    assert likely_share(rounds(2.0, 2.0, 2.0), rounds(1.9, 1.9, 1.9)) == "0.95 to 0.95, as the rounds scatter"
    scattered = rounds(*[0.8] * 25, 0.9, *[1.0] * 25)  # the median of a sample of these is one of the three
    assert likely_share(rounds(*[1.0] * 50), scattered) == "0.80 to 1.00, as the rounds scatter"
    assert likely_share(rounds(1.0), rounds(0.8)) == "not known from one round"
