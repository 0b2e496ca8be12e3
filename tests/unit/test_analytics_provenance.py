"""The facts that a release names about what it was made from."""

from __future__ import annotations

from analytics.provenance import Provenance, SiteData


def site(name: str, *, held: bool = True) -> SiteData:
    return SiteData(name, "2026-05-01", "2026-05-01", up_to_date=True, held=held)


def test_fault_140_a_release_of_several_sites_says_that_their_patients_are_not_linked() -> None:
    both = Provenance(sites=(site("milan"), site("rome")))
    assert dict(both.facts())["A patient known at several sites"] == (
        "is counted once at each site: records are not linked across sites"
    )
    # A site of which nothing was ever read has no patients that could be counted again.
    for one in (Provenance(sites=(site("milan"),)), Provenance(sites=(site("milan"), site("rome", held=False)))):
        assert "A patient known at several sites" not in dict(one.facts())
        assert one.patients_of_several_sites is None


def test_fault_141_a_release_says_that_patients_of_several_sites_were_linked() -> None:
    assert Provenance(sites=(site("milan"), site("rome")), linked=True).patients_of_several_sites == (
        "counted once, at the first site that has them enrolled: records are linked by identifiers"
    )
    assert Provenance(sites=(site("milan"),), linked=True).patients_of_several_sites is None
