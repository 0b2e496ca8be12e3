"""The result of `periop view check` for one file, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from mappers.errors import ViewError
from mappers.view.check import not_shareable, not_tabular, view_errors
from mappers.view.definition import ViewDefinition

PROFILES = {"shareable": "ShareableViewDefinition", "tabular": "TabularViewDefinition"}


@dataclass(frozen=True)
class Checked:
    """A file, the errors of its view, and what each profile misses (nothing is said of a view with errors)."""

    file: Path
    errors: tuple[ViewError, ...]
    missed: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, file: Path) -> Checked:
        """Check the view of a file."""
        try:
            data = json.loads(file.read_text("utf-8-sig"), parse_float=Decimal)
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            return cls(file, (ViewError("", f"not a readable JSON file: {error}"),), {})
        if errors := view_errors(data):
            return cls(file, tuple(errors), {})
        view = ViewDefinition.load(data)
        missed = {"shareable": tuple(not_shareable(data, view)), "tabular": tuple(not_tabular(view))}
        return cls(file, (), missed)

    def passed(self, profiles: Sequence[str]) -> bool:
        """Return whether the view has no error, nor misses anything of the profiles that are asked for."""
        return not self.errors and not any(self.missed[profile] for profile in profiles)

    def lines(self) -> Iterator[str]:
        """Yield what to print."""
        yield from (f"{self.file}: {error}" for error in self.errors)
        if not self.errors:
            yield (
                f"{self.file}: no error"
                if not any(self.missed.values())
                else f"{self.file}: no error, but for profiles"
            )
        for profile, missed in self.missed.items():
            yield from (f"  {PROFILES[profile]}: {each}" for each in missed)

    def as_json(self) -> dict[str, Any]:
        """Return the same for programs."""
        errors = [{"element": error.element, "problem": error.problem} for error in self.errors]
        return {
            "file": str(self.file),
            "errors": errors,
            **{name: list(missed) for name, missed in self.missed.items()},
        }
