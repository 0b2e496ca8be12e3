"""The ViewDefinitions that the cohort reads: those of `mappers/views/`, and a hospital's own in their place."""

from __future__ import annotations

from pathlib import Path

from mappers.errors import ViewError
from mappers.view.definition import ViewDefinition
from mappers.view.runner import sql

SHIPPED_VIEWS = Path(__file__).parent.parent / "views"


def load_views(*folders: Path) -> dict[str, ViewDefinition]:
    """Return the ViewDefinitions of the shipped folder and of `folders` by file name.

    A view of a later folder replaces one of the same name, and must have all its columns.

    Raises:
        ViewError: a folder is missing, a view cannot be compiled, or it lacks a column that the cohort reads.
    """
    shipped = {path.stem: ViewDefinition.load(path) for path in sorted(SHIPPED_VIEWS.glob("*.json"))}
    views = dict(shipped)
    for folder in folders:
        if not folder.is_dir():
            raise ViewError(str(folder), "no such folder; correct mapping.views in periop.toml")
        for path in sorted(folder.glob("*.json")):
            # By file name, since the cohort asks for the views by it.
            views[path.stem] = _load_own(path, shipped.get(path.stem))
    return views


def _load_own(path: Path, replaced: ViewDefinition | None) -> ViewDefinition:
    """Load a view of the hospital's own. It is compiled once, so that faults show before any data are read."""
    try:
        view = ViewDefinition.load(path)
        sql(view)
    except ViewError as error:
        element = error.element.removeprefix(str(path))  # a file that is not JSON names itself
        raise ViewError(f"{path}: {element}" if element else str(path), error.problem) from None
    names = {column.name for column in view.columns()}
    missing = [column.name for column in (replaced.columns() if replaced else ()) if column.name not in names]
    if missing:
        raise ViewError(str(path), f"lacks the column(s) {', '.join(missing)} that the cohort reads; add them")
    return view
