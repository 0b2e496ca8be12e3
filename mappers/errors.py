"""The errors of the mapping, one tree.

MappingError              anything a mapping cannot do; one sentence for a person, never patient data
├── DamagedFileError      a Parquet file is damaged or gone
├── TerminologyError      a value set or concept map cannot be read, or no file defines its name
│   └── UnexpandedError   a part of a value set that only a terminology server can evaluate
└── ViewError             a ViewDefinition is wrong; `element` names the place: `select[0].column[2].path`
    ├── UnsupportedError  it is right by the specification, but not supported here
    └── CardinalityError  it is right, but a resource has several values where a column takes one
"""

from __future__ import annotations


class MappingError(Exception):
    """Root of the errors of this package."""


class DamagedFileError(MappingError):
    """A Parquet file of the lake or of a view that cannot be read."""


def unreadable(file: object, error: Exception) -> DamagedFileError:
    """Return the error of a Parquet file, of the lake or of a view, that `error` kept from being read."""
    return DamagedFileError(
        f"{file}: cannot be read ({type(error).__name__}); put it back from a copy, "
        "or if it lies in views/, run `periop map --full`"
    )


class TerminologyError(MappingError):
    """A value set or concept map that cannot be read, or a name that no file defines."""


class UnexpandedError(TerminologyError):
    """A part of a value set that cannot be evaluated on the code alone: a terminology server can expand it."""


class ViewError(MappingError):
    """A ViewDefinition that cannot be compiled or run."""

    def __init__(self, element: str, problem: str) -> None:
        super().__init__(f"{element}: {problem}" if element else problem)
        self.element = element
        self.problem = problem


class UnsupportedError(ViewError):
    """A construct of the specification that is not supported here."""


class CardinalityError(ViewError):
    """A path that gives several values in some resource where one is expected."""
