"""Generated artefacts are as committed; `make expected` writes them anew for a reviewer to read the difference."""

from __future__ import annotations

from tests.expectations import FOLDER, everything


def test_generated_artefacts_are_as_committed() -> None:
    made = dict(everything())
    committed = {
        file.relative_to(FOLDER).as_posix(): file.read_text(encoding="utf-8")
        for file in FOLDER.rglob("*")
        if file.is_file()
    }
    assert made.keys() == committed.keys()
    changed = [name for name, content in made.items() if content != committed[name]]
    assert not changed, "run `make expected` and review the difference"
