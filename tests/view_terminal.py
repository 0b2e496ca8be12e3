"""`periop view` run in a folder of three invented resources and a view on them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

from schedules.cli.main import main
from schedules.cli.session import Session

ANNA = '{"resourceType":"Patient","id":"anna","active":true,"name":[{"family":"Rossi"},{"family":"Bianchi"}]}'
BEN = '{"resourceType":"Patient","id":"ben","name":[{"family":"=1+1"}],"multipleBirthInteger":2}'
DOSE = '{"resourceType":"Observation","id":"d","status":"final","code":{"text":"x"},"valueQuantity":{"value":-1.50}}'

COLUMNS = [
    {"name": "id", "path": "id"},
    {"name": "active", "path": "active"},
    {"name": "birth", "path": "multipleBirth.ofType(integer)"},
    {"name": "first", "path": "name.first().family"},
    {"name": "families", "path": "name.family", "collection": True},
]
VALUE = {"name": "dose", "path": "value.ofType(Quantity).value"}


def definition(*columns: dict[str, Any], resource: str = "Patient", **more: Any) -> str:
    return json.dumps({"resource": resource, "select": [{"column": list(columns), **more}]})


class Terminal:
    """Runs `periop view` in a folder that has a view and a file of resources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = self.err = ""
        self.put("view.json", definition(*COLUMNS))
        self.put("patients.ndjson", f"{ANNA}\n{BEN}\n{DOSE}\n")

    def put(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def __call__(self, *words: str) -> int:
        """A word that is a name in the folder is its path."""
        given = [str(self.folder / word) if "." in word else word for word in words]
        out, err = io.StringIO(), io.StringIO()
        code = main(["--config", str(self.folder / "none"), "view", *given], Session(out, err, {}))
        self.out, self.err = out.getvalue(), err.getvalue()
        return code


def sentence(periop: Terminal) -> str:
    """What stderr says, which is one line; nothing is on stdout."""
    assert periop.out == ""
    assert "Traceback" not in periop.err
    (line,) = periop.err.splitlines()
    return line.removeprefix("periop: ").replace(f"{periop.folder}{os.sep}", "")
