"""Makes the tables of elements from the models of fhir.resources: of R4 (those of R4B), and of R5.

Importing all the models takes seconds, which no run should pay, so the tables are made once and committed:

    python -m mappers.fhir_model.elements_source R4 > mappers/fhir_model/elements.json
    python -m mappers.fhir_model.elements_source R5 > mappers/fhir_model/elements_r5.json

A test holds them equal.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from mappers.fhir_model.elements import Release

PACKAGES: Mapping[Release, str] = {"R4": "fhir.resources.R4B", "R5": "fhir.resources"}
RENAMED = {"encodedBytes": "base64Binary", "uuidVersion": "uuid"}  # where the class is not named as its FHIR type


def models(release: Release) -> Iterator[type[BaseModel]]:
    """Yield every model of a release: resources, data types and backbone elements."""
    package = importlib.import_module(PACKAGES[release])
    for module_info in pkgutil.iter_modules(package.__path__):
        if module_info.ispkg:
            continue
        module = importlib.import_module(f"{PACKAGES[release]}.{module_info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == module.__name__:
                yield value


def type_name(annotation: object) -> str:
    """Return the FHIR type of a field's annotation, with `*` where it is a list: `HumanName*`, `dateTime`."""
    text = str(annotation)
    many = "*" if re.search(r"\bList\[", text) else ""
    if match := re.search(r"abc\.(\w+)Type\b", text):
        return match[1] + many
    if match := re.search(r", (?:<fhir_core\.types\.)?(\w+)(?:\(| object)", text):
        name = match[1][0].lower() + match[1][1:]
        return RENAMED.get(name, name) + many
    if re.search(r"\bbool\b", text):
        return "boolean" + many
    raise ValueError(f"no FHIR type is known for the annotation {text}")


def elements(model: type[BaseModel]) -> dict[str, str]:
    """Return the elements of one type: name -> type; a choice is `value[x]` -> `boolean|Quantity|…`."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        # fhir.resources adds a field `x__ext` for the `_x` of a primitive.
        if name == "resourceType" or name.endswith("__ext") or not extra.get("element_property"):
            continue
        kind = type_name(field.annotation)
        choice = extra.get("one_of_many")
        if choice:
            key = f"{choice}[x]"
            found[key] = f"{found[key]}|{kind}" if key in found else kind
        else:
            found[field.alias or name] = kind
    return found


def table(release: Release) -> dict[str, dict[str, str]]:
    """Return type name -> its elements, sorted by type name."""
    return {model.__name__: elements(model) for model in sorted(models(release), key=lambda model: model.__name__)}


def main() -> None:
    json.dump(table("R5" if sys.argv[1:] == ["R5"] else "R4"), sys.stdout, indent=0, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
