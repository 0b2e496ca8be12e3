"""From a TOML file to a pydantic model, with every fault as one sentence: the file, the key and what is allowed.

A sentence repeats a value from the file only if the key has a short list of allowed words, so that a secret in the
wrong place is not printed.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schedules.config.toml_lines import line_of
from schedules.errors import ConfigError

M = TypeVar("M", bound=BaseModel)
Loc = Sequence[int | str]

# What a value must be, by the kind of pydantic's error.
SHAPES = {
    "int_type": "a whole number without quotes, like 11",
    "int_from_float": "a whole number, like 11",
    "float_type": "a number without quotes, like 1.5",
    "bool_type": "true or false, without quotes",
    "string_type": "a text in quotes",
    "path_type": "a path in quotes",
    "date_type": "a date, like 2024-12-01",
    "date_from_datetime_parsing": "a date, like 2024-12-01",
    "tuple_type": "a list",
    "list_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
UNAVAILABLE = "is not available in this version"


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file. Raises `ConfigError` that names the line of a syntax error."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))  # Notepad begins a file with a byte order mark
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        # tomllib names no line for a fault at the end, where most files with an open bracket or quote fail.
        reason = str(error).replace("at end of document", f"at line {len(raw.splitlines())}, the end of the file")
        raise ConfigError(f"{path}: not valid TOML: {reason}") from None
    except RecursionError:  # thousands of nested brackets
        raise ConfigError(f"{path}: nested too deeply to be read; flatten its arrays and tables") from None


def validate(model: type[M], content: Mapping[str, Any], file: Path, context: object = None) -> M:
    """Return `content` as `model`. Raises `ConfigError` with one sentence per fault, each naming `file`.

    `context` is passed on to the validators of the model.
    """
    try:
        return model.model_validate(content, context=context)
    except ValidationError as error:
        text = file.read_text("utf-8-sig", errors="replace") if file.is_file() else ""
        # "from None": the message of pydantic would print the values of the file.
        faults = _causes(error.errors(include_url=False, include_input=True))
        raise ConfigError("\n".join(f"{file}: {_sentence(model, fault, text)}" for fault in faults)) from None


def _causes(faults: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Return `faults` without the "too short" of a list that only follows from the faults of its items."""
    places = [fault["loc"] for fault in faults]

    def follows(fault: ErrorDetails) -> bool:
        depth = len(fault["loc"])
        return fault["type"] == "too_short" and any(len(p) > depth and p[:depth] == fault["loc"] for p in places)

    return [fault for fault in faults if not follows(fault)]


def _sentence(model: type[BaseModel], fault: ErrorDetails, text: str) -> str:
    keys, owner = _locate(model, fault["loc"])
    line = line_of(text, keys)
    return (f"line {line}: " if line else "") + _what(keys, owner, fault)


def _what(keys: Loc, owner: type[BaseModel] | None, fault: ErrorDetails) -> str:
    where = key_path(keys) or "the file"
    context = fault.get("ctx", {})
    match fault["type"]:
        case "extra_forbidden":
            allowed = sorted(owner.model_fields) if owner else []
            return f"{where}: unknown key{_did_you_mean(str(keys[-1]), allowed)}; allowed: {', '.join(allowed)}"
        case "missing":
            return f"{where}: required, but not given"
        case "union_tag_invalid":  # the `kind` of a site, of its `auth` or of a target
            tag = str(context["tag"])
            tags = [each.strip(" '") for each in str(context["expected_tags"]).split(",")]
            return f"{where}.kind: '{tag}' {UNAVAILABLE}{_did_you_mean(tag, tags)}; allowed: {', '.join(tags)}"
        case "union_tag_not_found":
            return f"{where}.kind: required, but not given"
        case "literal_error":
            return f"{where}: {_shown(fault['input'])} {UNAVAILABLE}; allowed: {context['expected']}"
        case "value_error":
            return f"{where}: {context['error']}"
        case kind if kind in SHAPES:
            return f"{where}: must be {SHAPES[kind]}{_instead(keys, kind, fault['input'])}"
        case _:
            return f"{where}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"


def _instead(keys: Loc, kind: str, value: object) -> str:
    """Return how to write a list or a table at `keys` that was written as the other, or nothing."""
    path = ".".join(str(key) for key in keys if isinstance(key, str))
    if kind in {"tuple_type", "list_type"} and isinstance(value, dict):
        return f": write [[{path}]] with two brackets, once for each"
    if SHAPES[kind] == "a table" and isinstance(value, list):
        return f": write [{path}] with one bracket"
    return ""


def key_path(keys: Loc) -> str:
    """Return the path of a key as one would write it.

    >>> key_path(("sites", 0, "auth", "kind"))
    'sites[0].auth.kind'
    """
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


def _locate(model: type[BaseModel], loc: Loc) -> tuple[list[int | str], type[BaseModel] | None]:
    """Return the keys of `loc` without pydantic's union tags, and the model that owns the last key.

    In a union of models pydantic inserts the `kind` of the chosen one: `("sites", 0, "search", "url")`. No key of that
    name is in the file, so it is left out of the path, and tells which model comes next.
    """
    keys: list[int | str] = []
    here, owner = [model], None
    for step in loc:
        chosen = [each for each in here if step in get_args(each.model_fields["kind"].annotation)] if here[1:] else []
        if chosen:
            here = chosen
            continue
        keys.append(step)
        # The items of a list are of the same models as the list, but a number is no key of any of them.
        owner = here[0] if len(here) == 1 and isinstance(step, str) else None
        if isinstance(step, str):
            field = owner.model_fields.get(step) if owner else None
            here = _models(field.annotation) if field else []
    return keys, owner


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that an annotation names, also inside lists and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _did_you_mean(word: str, allowed: Sequence[str]) -> str:
    # 0.6 finds a letter that is missing, doubled or swapped, and does not suggest an unrelated key.
    near = difflib.get_close_matches(word, allowed, n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _shown(value: object) -> str:
    # A secret is longer than any word that could be meant here.
    return f"'{value}'" if isinstance(value, str) and len(value) <= 24 else "this value"
