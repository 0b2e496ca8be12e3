"""Code systems under all their names, and the form in which two codes of a system are compared.

A hospital writes a code system as it learned it: an OID, with or without ``https``, with a version behind it; and a
code with or without its dot. `systems.json` lists the names and says what each system ignores. The same rules stand
here twice: for the few codes of value sets in Python, for the codings of a lake in SQL. A test holds one to the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis import _

FILE = Path(__file__).parent / "systems.json"
# Not code systems: what a group of texts, and an entry for codings without a system, is listed under
TEXT = "https://periop.example/fhir/CodeSystem/text"
NO_SYSTEM = "https://periop.example/fhir/CodeSystem/no-system"
ANALYSIS = "https://periop.example/fhir/CodeSystem/analysis"

SCHEMA = pa.schema({**dict.fromkeys(("alias", "system", "form", "prefix"), pa.string()), "fold": pa.bool_()})

# SNOMED CT URI standard: an edition and a version may follow, and xsct is the name for experimental ones
_SNOMED = r"^http://snomed\.info/x?sct(/.*)?$"
_OID = r"^[0-9]+(\.[0-9]+)+$"
# Behind a code of ICD-10-WHO and ICD-10-GM: dagger, asterisk, exclamation mark; "C34.-" is the category C34
_ICD_MARKS = r"[-.+*!#†‡]+$"
_ICD = r"^([A-Z][0-9][0-9A-Z])([0-9A-Z-]+)$"
_NDC = r"^([0-9]{4,5})-([0-9]{3,4})(?:-([0-9]{1,2}))?$"
# \s of RE2 and Java is ASCII only, and hospitals' texts have no-break spaces
_BLANKS = "[ \t\n\r\f\v\u00a0\u2000-\u200a\u202f\u3000]+"
# Decomposed umlauts as well: macOS and some databases write a letter and a combining diaeresis
_LETTERS = {"a\u0308": "ae", "o\u0308": "oe", "u\u0308": "ue", "ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"}


@dataclass(frozen=True)
class CodeSystem:
    """A code system: `uri` is its canonical name.

    Attributes:
        fold: case does not matter.
        form: ``icd10`` (dot behind the third character), ``undotted``, ``ndc`` (11 digits), or empty: as written.
        prefix: what some write before each code, such as ``HGNC:``.
        hierarchy: ``prefix`` where the codes below a code begin with it.
    """

    uri: str
    fold: bool = False
    form: str = ""
    prefix: str = ""
    hierarchy: str = ""


def system_key(uri: str | None) -> str:
    """Return the name of a code system without what does not distinguish two systems.

    >>> system_key(" HTTPS://www.loinc.org/|2.77 ")
    'http://loinc.org'
    >>> system_key("2.16.840.1.113883.6.1")
    'urn:oid:2.16.840.1.113883.6.1'
    """
    key = re.sub(r"\|.*$", "", (uri or "").strip(" \t\n\r\f\v").lower())
    key = re.sub(r"/+$", "", re.sub(r"^https?://(www\.)?", "http://", key))
    key = f"urn:oid:{key}" if re.search(_OID, key) else key
    return re.sub(_SNOMED, "http://snomed.info/sct", key)


def system_key_sql(uri: ir.Value) -> ir.StringValue:
    """Return `system_key` of a column."""
    key = uri.fill_null("").strip().lower().re_replace(r"\|.*$", "")
    key = key.re_replace(r"^https?://(www\.)?", "http://").re_replace(r"/+$", "")
    key = key.re_search(_OID).ifelse(ibis.literal("urn:oid:") + key, key)
    return key.re_search(_SNOMED).ifelse("http://snomed.info/sct", key)


@cache
def code_systems() -> tuple[dict[str, CodeSystem], dict[str, CodeSystem]]:
    """Return the shipped code systems by canonical name, and by the key of each of their names."""
    by_uri: dict[str, CodeSystem] = {}
    by_key: dict[str, CodeSystem] = {}
    for entry in json.loads(FILE.read_bytes())["systems"]:
        system = CodeSystem(
            entry["uri"],
            entry.get("case") == "ignored",
            entry.get("form", ""),
            entry.get("prefix", ""),
            entry.get("hierarchy", ""),
        )
        by_uri[system.uri] = system
        for name in (system.uri, *(alias["uri"] for alias in entry.get("aliases", ()))):
            by_key[system_key(name)] = system
    return by_uri, by_key


@dataclass(frozen=True)
class Systems:
    """The shipped code systems, and the further names that a hospital gives them (`aliases`: key to canonical name)."""

    aliases: Mapping[str, str]

    def find(self, uri: str | None) -> CodeSystem:
        """Return the code system of a name; an unknown one is itself, with codes compared as they are written."""
        key = system_key(uri)
        by_uri, by_key = code_systems()
        if key in self.aliases:
            return by_uri[self.aliases[key]]
        return by_key.get(key, CodeSystem(key))

    def normal(self, uri: str | None, code: str) -> tuple[str, str]:
        """Return the canonical name and the code in its normal form; of a text, or without a system, as they are."""
        if uri == TEXT:
            return TEXT, normal_text(code)
        if not uri or uri == NO_SYSTEM:
            return "", code.strip()
        system = self.find(uri)
        return system.uri, normal_code(code, system)

    @property
    def rows(self) -> pa.Table:
        """All names as rows, for the engine."""
        by_uri, by_key = code_systems()
        names = by_key | {key: by_uri[uri] for key, uri in self.aliases.items()}
        records = [
            {"alias": key, "system": each.uri, "form": each.form, "prefix": each.prefix, "fold": each.fold}
            for key, each in sorted(names.items())
        ]
        return pa.Table.from_pylist(records, schema=SCHEMA)


def normal_code(code: str, system: CodeSystem) -> str:
    """Return a code in the form in which it is compared.

    >>> icd10 = CodeSystem("http://hl7.org/fhir/sid/icd-10-cm", fold=True, form="icd10")
    >>> normal_code(" c3411", icd10)
    'C34.11'
    >>> normal_code("50242-130-01", CodeSystem("http://hl7.org/fhir/sid/ndc", form="ndc"))
    '50242013001'
    """
    code = code.strip(" \t\n\r\f\v")
    code = code.upper() if system.fold else code
    code = code.removeprefix(system.prefix)
    if system.form == "icd10":
        code = re.sub(_ICD_MARKS, "", code)
        return re.sub(_ICD, r"\1.\2", code.replace(".", "")) if re.search(_ICD, code.replace(".", "")) else code
    if system.form == "undotted":
        return code.replace(".", "")
    parts = re.search(_NDC, code) if system.form == "ndc" else None
    if parts:
        labeler, product, package = parts.groups()
        return labeler.rjust(5, "0") + product.rjust(4, "0") + (package.rjust(2, "0") if package else "")
    return code


def normal_codings_sql(pairs: ir.Table, systems: ir.Table) -> ir.Table:
    """Add `canonical` and `normal` to (system, code): the canonical name, and the code in the form of its system.

    A `system` that is not known to `systems` (the rows of `Systems`) keeps its key, and its code is only stripped.
    """
    keyed = pairs.mutate(alias=system_key_sql(pairs["system"]), written=pairs["code"].fill_null("").strip())
    known = systems.rename(known="system")
    rows = keyed.join(known, "alias", how="left", rname="{name}_right")
    rows = rows.mutate(canonical=ibis.coalesce(_["known"], _["alias"]), form=_["form"].fill_null(""))
    folded = _["fold"].fill_null(False).ifelse(_["written"].upper(), _["written"])
    rows = rows.mutate(written=folded, prefix=_["prefix"].fill_null(""))
    prefixed = (_["prefix"] != "") & _["written"].startswith(_["prefix"])
    rows = rows.mutate(written=prefixed.ifelse(_["written"].substr(_["prefix"].length()), _["written"]))
    unmarked = _["written"].re_replace(_ICD_MARKS, "")
    rows = rows.mutate(unmarked=unmarked, undotted=unmarked.replace(".", ""))
    packaged = _["written"].re_extract(_NDC, 3)
    product = _["written"].re_extract(_NDC, 1).lpad(5, "0") + _["written"].re_extract(_NDC, 2).lpad(4, "0")
    normal = ibis.cases(
        (
            (_["form"] == "icd10") & _["undotted"].re_search(_ICD),
            _["undotted"].substr(0, 3) + "." + _["undotted"].substr(3),
        ),
        (_["form"] == "icd10", _["unmarked"]),
        (_["form"] == "undotted", _["written"].replace(".", "")),
        (
            (_["form"] == "ndc") & _["written"].re_search(_NDC),
            product + (packaged != "").ifelse(packaged.lpad(2, "0"), ""),
        ),
        else_=_["written"],
    )
    return rows.mutate(normal=normal).select("system", "code", "canonical", "normal")


def normal_text(text: str) -> str:
    """Return a text without what does not distinguish two texts: case, blanks, umlauts.

    >>> normal_text("  Mäßig  VERSCHLECHTERT ")
    'maessig verschlechtert'
    """
    text = re.sub(_BLANKS, " ", text.lower())
    for letter, letters in _LETTERS.items():
        text = text.replace(letter, letters)
    return text.strip(" ")


def normal_text_sql(text: ir.Value) -> ir.StringValue:
    """Return `normal_text` of a column."""
    words = text.lower().re_replace(_BLANKS, " ")
    for letter, letters in _LETTERS.items():
        words = words.replace(letter, letters)
    return words.strip()
