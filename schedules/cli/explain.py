"""`periop explain`: why a variable of a patient has its value, or a patient is not enrolled. Inside the hospital."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ExitCode

if TYPE_CHECKING:
    from mappers.explain.patient import PatientExplanation

NOTICE = "For the inside of the hospital only: resources are named by their own ids. This use is in the audit log."


@click.command()
@click.argument("patient")
@click.argument("variable", required=False)
@click.option("--id", "by_id", is_flag=True, help="PATIENT is the id of a Patient resource, not a pseudonym.")
@click.option("--site", help="The site of the patient, where several have the same id.")
@click.option("--cut", metavar="ID", help="A further data cutoff of the study, by its id.")
@as_json
@pass_session
def explain(
    session: Session,
    patient: str,
    variable: str | None,
    by_id: bool,
    site: str | None,
    cut: str | None,
    json_wanted: bool,
) -> ExitCode:
    """Explain a VARIABLE of a PATIENT (USUBJID or SUBJID): the value, the rule, each resource used or not and why."""
    from schedules.config.settings import check_sites
    from schedules.run.audit import record_use
    from schedules.run.inside import Wanted, explained

    settings = session.settings()
    study = session.study(settings.study)
    if site is not None:
        check_sites(settings, (site,), session.config)
    with session.progress() as progress:
        found = explained(
            settings,
            study,
            session.environ,
            Wanted(patient, by_id, site, variable, cut),
            progress.step,
            lambda usubjid: record_use(settings.data_dir, session.now(), session.user(), usubjid, variable),
        )
    if json_wanted:
        session.print_json({"notice": NOTICE, **explanation_json(found)})
        return ExitCode.OK
    from schedules.cli.explanation import explanation_text

    session.print_out(NOTICE, *explanation_text(found, whole=variable is None))
    return ExitCode.OK


def explanation_json(found: PatientExplanation) -> dict[str, Any]:
    """Return an explanation as plain data."""
    return {
        "patient": found.person.usubjid,
        "site": found.person.site,
        "records": [f"Patient/{record}" for record in found.records],
        "cutoff": found.cutoff.isoformat(),
        "stale": found.stale,
        "enrolled": found.enrolled,
        "reason": found.reason,
        "criteria": [dataclasses.asdict(each) for each in found.criteria],
        "variables": [dataclasses.asdict(each) for each in found.explanations],
        "quality": [{"domain": domain, "issue": issue, "count": count} for domain, issue, count in found.told],
    }
