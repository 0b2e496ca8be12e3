"""Consent: whose data may not be used, by the Consent resources of a site that asks for them.

FHIR R4 (hl7.org/fhir/R4/consent.html): `status` says whether a Consent is to be followed (active), was terminated or
replaced (inactive) or refused by a party (rejected); `provision.type` permits or denies within `provision.period`, and
the rules in it are exceptions to it. The German consent module (MII Kerndatensatz, Modul Consent, profile
mii-pr-consent-einwilligung) denies in the root and permits each use by a code in `provision.provision`, for a time of
its own. Not read: exceptions of exceptions, and to whom, for what purpose and to which data a rule is bound.

What is in doubt counts against the use of the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Literal

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort.consent_rule import Coding, ConsentRule
from mappers.cohort.facts import KEY, RESOURCE, Sources, attach, only
from mappers.cohort.issues import listed
from mappers.cohort.patients import MODIFIED

NO_CONSENT = "NO CONSENT"
DOMAIN = "Consent"  # of the quality list: all that is counted of who does not consent
CONSENT, CATEGORY, PROVISION = "consent", "consent_category", "consent_provision"
SAID = ("active", "inactive", "rejected")  # draft, proposed and entered-in-error say nothing yet, or nothing at all
FOREVER = "^(2[1-9]|[3-9][0-9])[0-9][0-9](-|$)"  # some systems write the year 3000, or 9999, for no end
# ADSL of who does not consent says that there is a patient, and nothing else.
KEPT = ("STUDYID", "USUBJID", "SUBJID", "SITEID", "ITTFL", "SAFFL", "SURGFL", "ADJSAFFL", "SCRFRS", "DCUTDT", "SRCREF")


def map_day() -> ir.Table:
    """Return the registered row of the day of the map and the day of the map before (the same, without one)."""
    return ibis.table({"day": "date", "previous": "date"}, name="map_day")


def decisions(views: Mapping[str, ir.Table], rule: ConsentRule, on: Literal["day", "previous"]) -> ir.Table:
    """Return (site, patient, allowed) of the patients of the rule's site who have a Consent about this use.

    The newest of what permits and denies on that day decides, by `Consent.dateTime`; of one day the denial. An
    undated denial is newer than all, an undated permission older. What was withdrawn after the newest permission, and
    what is not permitted at all (any more), is denied.
    """
    rows = _about(views, rule)
    said = _said(views, rule, rows.filter(_["status"] == "active")).cross_join(map_day().select(today=_[on]))
    # An exception within a rule holds only as long as the rule.
    permits = (_["type"] == "permit") & _surely("start", "end") & _surely("root_start", "root_end")
    denies = (_["type"] == "deny") & _possibly("start", "end")
    written, flag = dates.day(said["date"]), dates.flag(said["date"])
    first = ibis.coalesce(dates.earliest(written, flag), ibis.literal("1900-01-01").cast("date"))
    last = ibis.coalesce(dates.latest(written, flag), ibis.literal("2099-12-31").cast("date"))
    never = ibis.null("date")
    said = said.mutate(permitted=permits.ifelse(first, never), denied=denies.ifelse(last, never))
    each = said.group_by(*KEY, "nth").agg(permitted=_["permitted"].max(), denied=_["denied"].max())
    ended = rows.filter(_["status"] != "active").group_by(*KEY).agg(ended=dates.day(_["date"]).max())
    each = attach(each, ended)
    undenied = _["denied"].isnull() | (_["denied"] < _["permitted"])
    # A Consent of the same day that ended is the one that this one replaced.
    lasting = _["ended"].isnull() | (_["ended"] <= _["permitted"])
    held = each.filter(_["permitted"].notnull(), undenied, lasting).group_by(*KEY).agg(held=_.count())
    found = attach(rows.select(*KEY).distinct(), held)
    return found.select(*KEY, allowed=(_["held"] == max(len(rule.codes), 1)).fill_null(False))


def _about(views: Mapping[str, ir.Table], rule: ConsentRule) -> ir.Table:
    """Return the Consents of the site about this use, of everybody who is known."""
    rows = views[CONSENT].filter(_["site"] == rule.site, _["patient"].notnull(), _["status"].isin(SAID))
    rows = rows.filter(~_["test_data"].fill_null(False))
    rows = only(rows, _coded(views[CATEGORY], rule.categories), RESOURCE)
    if not rule.codes:
        return rows
    # A consent to an operation has none of the codes; one that ended may have lost them.
    named = only(rows, _coded(views[PROVISION], rule.codes), RESOURCE)
    return named.union(rows.filter(_["status"] != "active"), distinct=True)


def _said(views: Mapping[str, ir.Table], rule: ConsentRule, active: ir.Table) -> ir.Table:
    """Return one row for each rule that says something: with the number `nth` of its code, and the period of its root.

    Without codes it is the root rule. It should have no type by the definition of the element, and has one in practice.
    """
    root = active.select(*KEY, "id", "date", "type", "start", "end", root_start=_["start"], root_end=_["end"])
    if not rule.codes:
        return root.mutate(nth=ibis.literal(0, "int32"))
    root = root.drop("type", "start", "end")
    found = [
        root.join(_coded(views[PROVISION], (code,)).select(*RESOURCE, "type", "start", "end"), list(RESOURCE)).mutate(
            nth=ibis.literal(nth, "int32")
        )
        for nth, code in enumerate(rule.codes)
    ]
    return ibis.union(*found)


def _coded(rows: ir.Table, codings: Sequence[Coding]) -> ir.Table:
    """Return the rows with one of these codings; a coding without a system means any system."""
    matches = [
        (_["code"] == code) & (_["system"] == system) if system else _["code"] == code for system, code in codings
    ]
    return rows.filter(reduce(lambda one, other: one | other, matches))


def _surely(start: str, end: str) -> ir.Value:
    """Return True where today is certainly within the period: partial dates are taken against it."""
    begun = dates.latest(dates.day(_[start]), dates.flag(_[start])) <= _["today"]
    lasts = dates.earliest(dates.day(_[end]), dates.flag(_[end])) >= _["today"]
    endless = _[end].isnull() | _[end].cast("string").re_search(FOREVER)
    return (_[start].isnull() | begun.fill_null(False)) & (endless | lasts.fill_null(False))


def _possibly(start: str, end: str) -> ir.Value:
    """Return True where today may be within the period: what cannot be read is no bound."""
    begun = dates.earliest(dates.day(_[start]), dates.flag(_[start])) <= _["today"]
    lasts = dates.latest(dates.day(_[end]), dates.flag(_[end])) >= _["today"]
    return begun.fill_null(True) & lasts.fill_null(True)


def decided(sources: Sources) -> ir.Table:
    """Return (site, patient, allowed) of the patients with a Consent, at the sites that ask for consent."""
    return sources.once("consent", lambda: ibis.union(*[_decided(sources, rule) for rule in sources.consent]))


def _decided(sources: Sources, rule: ConsentRule) -> ir.Table:
    # A modifier extension that is not understood may turn a permission into its opposite.
    unclear = sources.views[MODIFIED].filter(_["resource_type"] == DOMAIN, _["site"] == rule.site)
    unclear = unclear.select(*KEY).distinct().mutate(allowed=ibis.literal(False))
    found = decisions(sources.views, rule, "day")
    return ibis.union(found.anti_join(unclear, list(KEY)), unclear)


def with_consent(sources: Sources, screened: ir.Table) -> ir.Table:
    """Return the screened with SCRFRS `NO_CONSENT` for those whose data may not be used."""
    if not sources.consent:
        return screened
    strict = [rule.site for rule in sources.consent if rule.without == "exclude"]
    table = attach(screened, decided(sources))
    allowed = ibis.coalesce(_["allowed"], ~_["site"].isin(strict))
    table = table.mutate(consent_said=_["allowed"].notnull(), SCRFRS=allowed.ifelse(_["SCRFRS"], NO_CONSENT))
    return table.drop("allowed")


def withheld(table: ir.Table) -> ir.Table:
    """Return ADSL with nothing but `KEPT` of those who do not consent."""
    without = (_["SCRFRS"] == NO_CONSENT).fill_null(False)
    hidden = {
        name: without.ifelse(ibis.null(dtype), _[name]) for name, dtype in table.schema().items() if name not in KEPT
    }
    none = ibis.literal([], table.schema()["SRCREF"])
    return table.mutate(**hidden, SRCREF=without.ifelse(none, _["SRCREF"])).select(*table.columns)


def issues(sources: Sources, subjects: ir.Table) -> list[ir.Table]:
    """Count who does not consent, by whether there is a Consent at all."""
    if not sources.consent:
        return []
    without = (subjects["SCRFRS"] == NO_CONSENT).fill_null(False)
    found = {
        (DOMAIN, "denied, withdrawn, expired or not understood, patient not used"): without & subjects["consent_said"],
        (DOMAIN, "no consent recorded, patient not used"): without & ~subjects["consent_said"],
    }
    return [listed(subjects, found)]


def turned(views: Mapping[str, ir.Table], rules: Sequence[ConsentRule]) -> ir.Table:
    """Return (site, patient) of those of whom the passing of time since the map before has changed what is allowed."""
    found = []
    for rule in rules:
        now, before = (decisions(views, rule, on) for on in ("day", "previous"))
        found.append(now.join(before, [*KEY, now["allowed"] != before["allowed"]]).select(*KEY))
    return ibis.union(*found) if len(found) > 1 else found[0]
