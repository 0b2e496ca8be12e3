"""`periop demo`: the whole way on the built-in cohort of 33 invented patients, into a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from schedules.config.settings import Settings, load_settings
from schedules.errors import ConfigError, PeriopError

INVENTED = "The patients of this demo are invented, so nothing is suppressed (min_cell = 0)."
CONFIG = "periop.toml"
SETTINGS = f"""\
# Written by `periop demo`: the built-in cohort, as a site of its own.
data_dir = "."
study = "alneo"

[[sites]]
name = "demo"
kind = "folder"
path = "fhir"

[disclosure]
min_cell = 0
note = "{INVENTED}"
"""
IN_THE_WHEEL = Path(__file__).parent / "demo_cohort"
IN_A_CHECKOUT = Path(__file__).parents[2] / "fixtures" / "alneo"


def demo_cohort(*places: Path) -> Path:
    """The folder of the built-in cohort, in FHIR NDJSON: the first of `places` that holds it."""
    for place in places or (IN_THE_WHEEL, IN_A_CHECKOUT):
        if any(place.glob("*.ndjson*")):
            return place
    raise PeriopError("the cohort of the demo is not part of this installation; install periop-fhir again")


def demo_settings(out: Path, cohort: Path) -> Settings:
    """Copy `cohort` and write the demo's `periop.toml` into `out`, and read it.

    Raises `ConfigError` where `out` is in use for something else; a folder of an earlier demo is used again.
    """
    file = out / CONFIG
    if file.exists():
        if file.read_text(encoding="utf-8") != SETTINGS:
            raise ConfigError(f"{file}: another configuration is here; name an empty folder with --out")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: not an empty folder; name another with --out")
    fhir = out / "fhir"
    fhir.mkdir(parents=True, exist_ok=True)
    for source in sorted(cohort.glob("*.ndjson*")):
        shutil.copyfile(source, fhir / source.name)
    file.write_text(SETTINGS, encoding="utf-8")
    return load_settings(file)
