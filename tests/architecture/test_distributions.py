"""Our root packages have everyday names: no other installed distribution may own one of them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence

import pytest

OURS = "periop-fhir"
ROOT_PACKAGES = ("connectors", "mappers", "analytics", "schedules")


def foreign_owners(owners: Mapping[str, Sequence[str]], package: str) -> list[str]:
    """Distributions other than ours that own `package`, by PEP 503 names."""
    return sorted({name for name in owners.get(package, ()) if name.lower().replace("_", "-") != OURS})


@pytest.mark.parametrize("package", ROOT_PACKAGES)
def test_no_other_distribution_owns_a_root_package(package: str) -> None:
    owners = foreign_owners(importlib.metadata.packages_distributions(), package)
    assert not owners, f"{package} is also installed by {', '.join(owners)}: imports may find the wrong one"


def test_another_owner_is_found() -> None:
    owners = {"mappers": ["periop_fhir", "periop-fhir", "some-mappers"], "analytics": ["periop-fhir"]}
    assert foreign_owners(owners, "mappers") == ["some-mappers"]
    assert foreign_owners(owners, "analytics") == []
    assert foreign_owners(owners, "schedules") == []
