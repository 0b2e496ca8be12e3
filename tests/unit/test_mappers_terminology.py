"""Value sets and concept maps: which codes their rules hold, how files add to one another, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mappers.errors import TerminologyError
from mappers.terminology import Terminology, load_terminology
from mappers.terminology.rules import ELEMENT_VALUE_SET, REPLACES
from mappers.terminology.systems import TEXT, Systems, normal_code, normal_text, system_key

SCT, CM = "http://snomed.info/sct", "http://hl7.org/fhir/sid/icd-10-cm"
ROME = "https://rome.example/lab"


def value_set(*includes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"resourceType": "ValueSet", "status": "active", "compose": {"include": list(includes)}, **more}


def codes(*given: str, system: str = ROME) -> dict[str, Any]:
    return {"system": system, "concept": [{"code": code} for code in given]}


def filtered(*filters: tuple[str, str, str], system: str = CM) -> dict[str, Any]:
    return {"system": system, "filter": [{"property": what, "op": op, "value": value} for what, op, value in filters]}


def concept_map(meanings: dict[str, str], source: str | None = ROME, **group: Any) -> dict[str, Any]:
    elements = [{"code": code, "target": [{"code": target}]} for code, target in meanings.items()]
    return {
        "resourceType": "ConceptMap",
        "status": "active",
        "group": [{**({"source": source} if source else {}), **group, "element": elements}],
    }


def loaded(folder: Path, asked: set[str] | None = None, **files: dict[str, Any]) -> Terminology:
    folder.mkdir(exist_ok=True)
    for name, resource in files.items():
        (folder / f"{name.replace('_', '-')}.json").write_text(json.dumps(resource))
    return load_terminology(folder, asked=asked)


def members(terminology: Terminology, name: str, system: str, *candidates: str) -> list[str]:
    return [code for code in candidates if terminology.target(name, system, code) is not None]


@pytest.mark.parametrize(
    "name",
    [
        "http://loinc.org",
        "https://loinc.org/",
        " http://www.loinc.org ",
        "urn:oid:2.16.840.1.113883.6.1",
        "URN:OID:2.16.840.1.113883.6.1",
        "2.16.840.1.113883.6.1",
        "http://loinc.org|2.77",
    ],
)
def test_a_system_is_known_by_all_its_names(name: str) -> None:
    assert Systems({}).find(name).uri == "http://loinc.org"


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("http://snomed.info/sct/900000000000207008/version/20240101", SCT),
        ("http://snomed.info/xsct/999000041000000102", SCT),
        ("http://snomed.info/sct|http://snomed.info/sct/11000274103", SCT),
        ("http://fhir.de/CodeSystem/dimdi/icd-10-gm", "http://fhir.de/CodeSystem/bfarm/icd-10-gm"),
        ("https://biomedit.ch/rdf/sphn-resource/icd-10-gm", "http://fhir.de/CodeSystem/bfarm/icd-10-gm"),
        ("http://fhir.de/CodeSystem/bfarm/atc", "http://www.whocc.no/atc"),
        ("http://hl7.org/fhir/sid/icd-10-pcs", "http://www.cms.gov/Medicare/Coding/ICD10"),
        ("http://terminology.hl7.org/CodeSystem/MDRAE", "http://terminology.hl7.org/CodeSystem/mdr"),
        ("https://www.meddra.org", "http://terminology.hl7.org/CodeSystem/mdr"),
        ("urn:oid:2.16.840.1.113883.6.163", "http://terminology.hl7.org/CodeSystem/mdr"),
        ("urn:oid:2.16.840.1.113883.6.43.1", "http://terminology.hl7.org/CodeSystem/icd-o-3"),
        ("http://www.genenames.org/geneId", "http://www.genenames.org"),
        ("https://Rome.example/Lab/", "http://rome.example/lab"),
    ],
)
def test_older_and_national_names(name: str, canonical: str) -> None:
    assert Systems({}).find(name).uri == canonical


@pytest.mark.parametrize(
    ("system", "code", "normal"),
    [
        (CM, "c3411", "C34.11"),
        (CM, " C34.11 ", "C34.11"),
        (CM, "C34", "C34"),
        ("http://fhir.de/CodeSystem/bfarm/icd-10-gm", "C34.-", "C34"),
        ("http://fhir.de/CodeSystem/bfarm/icd-10-gm", "G63.1*", "G63.1"),
        ("http://terminology.hl7.org/CodeSystem/icd-o-3", "8041/3", "8041/3"),
        ("http://hl7.org/fhir/sid/icd-9-cm", "32.49", "3249"),
        ("http://hl7.org/fhir/sid/ndc", "50242-130-01", "50242013001"),
        ("http://hl7.org/fhir/sid/ndc", "50242013001", "50242013001"),
        ("http://hl7.org/fhir/sid/ndc", "0069-8140-20", "00069814020"),
        ("http://hl7.org/fhir/sid/ndc", "50242-130", "502420130"),
        ("http://www.genenames.org", "427", "427"),
        ("http://www.genenames.org", "HGNC:427", "427"),
        ("http://loinc.org", "la9622-7", "LA9622-7"),
        (ROME, " x1 ", "x1"),
    ],
)
def test_the_form_in_which_codes_are_compared(system: str, code: str, normal: str) -> None:
    assert normal_code(code, Systems({}).find(system)) == normal


def test_texts_are_compared_without_case_blanks_and_umlauts() -> None:
    assert normal_text("\u00a0 MÄSSIG \n verschlechtert") == normal_text("mäßig verschlechtert")
    assert normal_text("mo\u0308glich") == "moeglich"


def test_a_prefix_and_a_regular_expression_hold_whole_codes(tmp_path: Path) -> None:
    terminology = loaded(
        tmp_path,
        drug=value_set(filtered(("code", "regex", "C50.*")), filtered(("code", "regex", r"D0[57]\.[0-9]"))),
    )
    wanted = ("C50", "C50.9", "C50911", "C51", "AC50", "D05.1", "D071", "D05.12", "D06.1")
    assert members(terminology, "drug", CM, *wanted) == ["C50", "C50.9", "C50911", "D05.1", "D071"]


def test_all_filters_must_hold(tmp_path: Path) -> None:
    both = filtered(("concept", "is-a", "C34"), ("code", "regex", r".*\.1.*"))
    terminology = loaded(tmp_path, drug=value_set(both))
    assert members(terminology, "drug", CM, "C34", "C34.1", "C34.11", "C34.2", "C50.1") == ["C34.1", "C34.11"]


def test_is_a_where_codes_begin_with_that_of_their_parent(tmp_path: Path) -> None:
    terminology = loaded(
        tmp_path,
        whole=value_set(filtered(("concept", "is-a", "C34"))),
        below=value_set(filtered(("concept", "descendent-of", "C34"))),
    )
    assert members(terminology, "whole", CM, "C34", "C34.11") == ["C34", "C34.11"]
    assert members(terminology, "below", CM, "C34", "C34.11") == ["C34.11"]


def test_equal_and_in(tmp_path: Path) -> None:
    terminology = loaded(
        tmp_path, drug=value_set(filtered(("code", "=", "1"), system=SCT), filtered(("code", "in", "2,3"), system=SCT))
    )
    assert members(terminology, "drug", SCT, "1", "2", "3", "23") == ["1", "2", "3"]


def test_a_whole_system(tmp_path: Path) -> None:
    terminology = loaded(tmp_path, drug=value_set({"system": ROME}))
    assert terminology.target("drug", f"{ROME}/", "anything") == ""
    assert terminology.target("drug", SCT, "1") is None


def test_exclusions_and_imports(tmp_path: Path) -> None:
    url = "https://rome.example/ValueSet/breast"
    terminology = loaded(
        tmp_path,
        breast=value_set(filtered(("code", "regex", "C50.*")), url=url),
        lower={
            **value_set({"valueSet": [f"{url}|1.0"]}, codes("C61", system=CM)),
            "compose": {
                "include": [{"valueSet": [url]}, codes("C61", system=CM)],
                "exclude": [codes("C50.9", system=CM), filtered(("code", "regex", "C50[.]8.*"))],
            },
        },
        some=value_set({"valueSet": [url], **codes("C50.1", "C61", system=CM)}),
    )
    assert members(terminology, "lower", CM, "C50.1", "C50.9", "C50.81", "C61") == ["C50.1", "C61"]
    assert members(terminology, "some", CM, "C50.1", "C50.2", "C61") == ["C50.1"]


def test_what_is_excluded_from_the_excluded_stays(tmp_path: Path) -> None:
    url = "https://rome.example/ValueSet/out"
    out = value_set(filtered(("code", "regex", "C50.*")), url=url)
    out["compose"]["exclude"] = [codes("C50.9", system=CM)]
    whole = value_set(filtered(("code", "regex", "C.*")))
    whole["compose"]["exclude"] = [{"valueSet": [url]}]
    terminology = loaded(tmp_path, out=out, whole=whole)
    assert members(terminology, "whole", CM, "C34.1", "C50.1", "C50.9") == ["C34.1", "C50.9"]


def test_an_expansion_is_what_counts(tmp_path: Path) -> None:
    inner = {"system": SCT, "code": "2", "contains": [{"system": SCT, "code": "3"}]}
    heading = {"display": "a heading", "contains": [{"system": SCT, "code": "1"}, inner]}
    pinned = value_set(filtered(("concept", "is-a", "1"), system=SCT))
    pinned["expansion"] = {
        "timestamp": "2026-11-30",
        "contains": [heading, {"system": SCT, "code": "9", "abstract": True}],
    }
    terminology = loaded(tmp_path, drug=pinned)
    assert members(terminology, "drug", SCT, "1", "2", "3", "4", "9") == ["1", "2", "3"]


def test_a_local_file_adds_to_the_shipped_one(tmp_path: Path) -> None:
    terminology = loaded(tmp_path, alk_gene=value_set(codes("alk")))
    assert terminology.codes("alk-gene")[:2] == [(ROME, "alk"), ("http://www.genenames.org", "HGNC:427")]


def test_a_local_file_replaces_the_shipped_one_where_it_says_so(tmp_path: Path) -> None:
    says = [{"url": REPLACES, "valueBoolean": True}]
    terminology = loaded(tmp_path, alk_gene=value_set(codes("alk"), extension=says))
    assert terminology.codes("alk-gene") == [(ROME, "alk")]


def test_what_a_local_map_says_of_a_code_counts(tmp_path: Path) -> None:
    ncit = "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl"
    changed = concept_map({"C159716": "NE"}, source="urn:oid:2.16.840.1.113883.3.26.1.1")
    changed["group"][0]["element"].append({"code": "C159547", "target": [{"equivalence": "unmatched"}]})
    terminology = loaded(tmp_path, recist=changed)
    assert terminology.target("recist", ncit, "C159716") == "NE"
    assert terminology.target("recist", ncit, "C159547") is None
    assert terminology.target("recist", ncit, "C159546") == "SD"


def test_an_exclusion_takes_a_shipped_code_away(tmp_path: Path) -> None:
    less = value_set()
    less["compose"] = {"exclude": [codes("254637007", system=SCT)]}
    terminology = loaded(tmp_path, nsclc=less)
    assert members(terminology, "nsclc", SCT, "254637007", "254626006") == ["254626006"]


def test_the_later_folder_counts_first(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    loaded(first, recist=concept_map({"x": "PR", "y": "SD"}))
    loaded(second, recist=concept_map({"x": "PD"}))
    terminology = load_terminology(first, second)
    assert [terminology.target("recist", ROME, code) for code in "xy"] == ["PD", "SD"]


def test_an_element_may_name_a_value_set(tmp_path: Path) -> None:
    url = "https://rome.example/ValueSet/sleeves"
    mapped = concept_map({"s1": "OTHER"})
    extension = {"url": ELEMENT_VALUE_SET, "valueCanonical": url}
    mapped["group"][0]["element"].insert(0, {"extension": [extension], "target": [{"code": "LOBECTOMY"}]})
    terminology = loaded(
        tmp_path,
        surgery_type=mapped,
        sleeves=value_set({"system": ROME, "filter": [{"property": "code", "op": "regex", "value": "s.*"}]}, url=url),
    )
    # The code itself counts before how it begins, wherever it stands.
    assert [terminology.target("surgery-type", ROME, code) for code in ("s1", "s2", "t")] == [
        "OTHER",
        "LOBECTOMY",
        None,
    ]


def test_local_codes_are_translated_into_standard_ones(tmp_path: Path) -> None:
    translation = concept_map({"ps": "89247-1", "rvt": "9999-9"}, target="http://loinc.org")
    translation["group"] += concept_map({"ECOG Status": "89247-1"}, source=TEXT, target="http://loinc.org")["group"]
    terminology = loaded(tmp_path, asked=set(), our_codes=translation)
    assert terminology.target("ecog-code", ROME, "ps") == ""
    assert terminology.target("ecog-code", TEXT, "ecog  status") == ""
    (note,) = terminology.notes
    assert "1 of 3 targets" in note
    assert "group[0].element[1]: http://loinc.org|9999-9" in note


def test_a_further_name_of_a_code_system(tmp_path: Path) -> None:
    names = [{"type": "uri", "value": value} for value in ("http://loinc.org", "https://rome.example/loinc")]
    naming = {
        "resourceType": "NamingSystem",
        "name": "Loinc",
        "status": "active",
        "kind": "codesystem",
        "uniqueId": names,
    }
    terminology = loaded(tmp_path, asked=set(), loinc=naming)
    assert terminology.target("ecog-code", "https://rome.example/loinc/", "89247-1") == ""


def test_codes_without_a_system() -> None:
    terminology = load_terminology()
    rows = {(row["name"], row["code"]) for row in terminology.rows.to_pylist() if row["system"] == ""}
    assert ("ecog-code", "89247-1") in rows
    assert not {code for _, code in rows if len(code) < 5 and not code.isdigit()}


NSCLC_IS_A = value_set(filtered(("concept", "is-a", "254637007"), system=SCT))


@pytest.mark.parametrize(
    ("name", "resource", "message"),
    [
        ("nsclc", NSCLC_IS_A, "compose.include[0].filter[0].op: is-a of 'concept' in http://snomed.info/sct cannot be"),
        ("nsclc", value_set(filtered(("code", "regex", "(?=C)"))), "compose.include[0].filter[0].value: the regular"),
        ("nsclc", value_set(filtered(("code", "regex", "["))), "compose.include[0].filter[0].value: '[' is no regular"),
        ("nsclc", value_set(filtered(("inactive", "exists", "true"))), "compose.include[0].filter[0].op: exists of"),
        ("nsclc", value_set({"valueSet": ["https://rome.example/x"]}), "compose.include[0].valueSet[0]: no value set"),
        ("nsclc", value_set({"concept": [{"code": "1"}]}), "compose.include[0]: has codes and no system"),
        ("nsclc", value_set(), "compose: has no code"),
        ("nsclc", concept_map({"x": "y"}), "resourceType: must be ValueSet"),
        ("recist", value_set(codes("x")), "resourceType: must be ConceptMap"),
        ("stage-group", concept_map({"x": "Stage 3A"}), "group[0].element[0].target[0].code: 'Stage 3A' is no value"),
        (
            "stage-group",
            concept_map({"x": "Stage 3A"}, target="http://rome.example/y"),
            "group[0].element[0].target[0].code",
        ),
        ("recist", concept_map({"x": "PR"}, unmapped={"mode": "fixed", "code": "NE"}), "group[0].unmapped: is not"),
        ("recist", {"resourceType": "ConceptMap", "group": []}, "group: has no element with a target"),
        ("ncslc", value_set(codes("x")), "nothing asks for a ValueSet of this name"),
        ("recists", concept_map({"x": "PR"}), "group[0].target: names no code system, and no rule asks for a map"),
        ("recist", {"resourceType": "Patient"}, "resourceType: must be ValueSet, ConceptMap or NamingSystem"),
        (
            "mine",
            concept_map({"x": "no-1"}, target="http://loinc.org"),
            "'NO-1' of http://loinc.org is in no value set",
        ),
    ],
)
def test_what_would_silently_do_nothing_is_refused(
    tmp_path: Path, name: str, resource: dict[str, Any], message: str
) -> None:
    with pytest.raises(TerminologyError) as error:
        loaded(tmp_path, asked={"alectinib"}, **{name: resource})
    assert str(error.value).startswith(f"{tmp_path / name}.json: ")
    assert message in str(error.value)


def test_a_part_of_an_expansion_is_refused(tmp_path: Path) -> None:
    page = value_set(codes("1"))
    page["expansion"] = {"total": 500, "contains": [{"system": SCT, "code": "1"}]}
    with pytest.raises(TerminologyError, match="expansion: has 1 of 500 codes"):
        loaded(tmp_path, nsclc=page)


def test_value_sets_in_a_circle_are_refused(tmp_path: Path) -> None:
    sets = {
        name: value_set({"valueSet": [f"https://rome.example/{other}"]}, url=f"https://rome.example/{name}")
        for name, other in (("a", "b"), ("b", "a"))
    }
    with pytest.raises(TerminologyError, match="in a circle: a -> b -> a"):
        loaded(tmp_path, **sets)


def test_the_key_of_a_system_is_its_own_key() -> None:
    for name in ("http://loinc.org/", "1.2.3", "https://www.rome.example//|1"):
        assert system_key(system_key(name)) == system_key(name)
