"""The resources that a variable of the cohort tables may rest on: which ones, by which value sets, and from when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from mappers.study import Study

DRUG = "the value set of the study drug"  # its name is a setting of the study: `treatment.drug`
Part = tuple[str, tuple[str, ...]]  # an element, and names of value sets or concept maps


@dataclass(frozen=True)
class Bound:
    """A limit on the date of a resource: before, after, … a date of ADSL. Without that date there is no limit."""

    order: Literal["<", "<=", ">", ">="]
    column: str

    @property
    def missed(self) -> str:
        """The reason why a resource beyond the limit is not used."""
        names = {"<": "not before", "<=": "after", ">": "not after", ">=": "before"}
        return f"dated {names[self.order]} {self.column}"


@dataclass(frozen=True)
class Evidence:
    """Resources that a variable may rest on.

    Attributes:
        view: the view with one row a resource.
        question: (element, value sets): a resource is considered where one of them has the element; none: all are.
        answer: (element, concept maps): it can be used where one of them understands the element.
        elements: the elements of FHIR that are read.
        bounds: where its date must lie.
        against: why what is of this evidence is not used, or speaks against the variable.
        source: the column of ADSL that names the resource type which was preferred to others.
    """

    view: str
    elements: tuple[str, ...]
    question: Part | None = None
    answer: Part | None = None
    bounds: tuple[Bound, ...] = ()
    against: str | None = None
    source: str | None = None

    def of(self, study: Study) -> Evidence:
        """Return the evidence with the name of the value set of the study drug in place of `DRUG`."""
        return replace(self, question=_named(self.question, study), answer=_named(self.answer, study))

    def asks(self) -> Iterator[tuple[str, str, str]]:
        """Yield (view, element, name of a value set or concept map) of what is looked up."""
        for part in (self.question, self.answer):
            if part is not None:
                yield from ((self.view, part[0], name) for name in part[1])


def _named(part: Part | None, study: Study) -> Part | None:
    return part and (part[0], tuple(study.treatment.drug if name == DRUG else name for name in part[1]))


# Without a dose there is no time 0, and a baseline value is the latest up to the cutoff.
UP_TO_TIME_0 = (Bound("<=", "TRTSDT"),)
AFTER_TIME_0 = (Bound(">", "TRTSDT"),)
BEFORE_SURGERY = (Bound(">", "TRTSDT"), Bound("<", "SURGDT"))
FROM_SURGERY = (Bound(">=", "SURGDT"),)
AFTER_SURGERY = (Bound(">", "SURGDT"),)
UP_TO_SURGERY = (Bound("<=", "SURGDT"),)
OBSERVED = ("Observation.code", "Observation.value[x]", "Observation.effective[x]")
REPORTED = ("DiagnosticReport.code", "DiagnosticReport.conclusionCode", "DiagnosticReport.effective[x]")


def answered(
    question: tuple[str, ...], answer: tuple[str, ...], bounds: tuple[Bound, ...] = (), *elements: str
) -> tuple[Evidence, ...]:
    """Return the Observations and DiagnosticReports that answer a question, or whose value is an answer by itself."""
    asked = ("code", question) if question else ("value", answer)
    given = ("value", answer) if answer else None
    return (
        Evidence("observation", (*OBSERVED, *elements), asked, given, bounds),
        Evidence("diagnostic_report", REPORTED, asked, given, bounds),
    )


def interpreted(question: str, answer: str, bounds: tuple[Bound, ...] = ()) -> tuple[Evidence, ...]:
    """Return the Observations whose interpretation is the answer."""
    element = ("Observation.interpretation",)
    return (Evidence("observation", element, ("code", (question,)), ("interpretation", (answer,)), bounds),)


# A patient record has no date: it says what is so now.
PATIENT = Evidence("patient", ("Patient.id",))
SITED = ("Condition.code", "Condition.bodySite", "Condition.extension (morphology)")
# Events that are no AdverseEvent: a Condition or a graded Observation with the term of an event
OTHER_EVENTS = (
    Evidence("condition", ("Condition.code",), ("code", ("ae-term",))),
    Evidence("observation", OBSERVED, ("code", ("ae-term", "meddra-term")), ("value", ("ctcae-grade",))),
)
SMALL_CELL = "says small cell carcinoma, which is not NSCLC"
LUNG_CANCER = (
    Evidence("condition", ("Condition.code", "Condition.verificationStatus"), ("code", ("nsclc",))),
    # Registries code a tumour by its site and its histology (ICD-O-3), and not by a disease.
    Evidence("condition", SITED, ("code", ("lung-site",)), ("morphology", ("nsclc-histology",))),
    Evidence("condition", SITED, ("code", ("lung-site",)), ("evidence", ("nsclc-histology",))),
    Evidence("condition", SITED, ("bodySite", ("lung-site",)), ("code", ("nsclc-histology",))),
    # The disease says lung, and the histology says which: small cells are another disease.
    Evidence("condition", ("Condition.code",), ("code", ("small-cell",)), against=SMALL_CELL),
    Evidence("condition", ("Condition.extension (morphology)",), ("morphology", ("small-cell",)), against=SMALL_CELL),
    Evidence("condition", ("Condition.evidence.code",), ("evidence", ("small-cell",)), against=SMALL_CELL),
    Evidence("observation", OBSERVED, ("code", ("histology-code",)), ("value", ("small-cell",)), against=SMALL_CELL),
)


def doses(source: str, *bounds: Bound) -> tuple[Evidence, ...]:
    """Return what says that the study drug was taken, of three kinds; the column `source` says which was preferred."""
    read = {
        "medication_administration": "MedicationAdministration.effective[x]",
        "medication_dispense": "MedicationDispense.whenHandedOver",
        "medication_statement": "MedicationStatement.effective[x]",
    }
    return tuple(
        Evidence(
            view,
            (f"{element.partition('.')[0]}.medication[x]", element),
            ("medication", (DRUG,)),
            bounds=bounds,
            source=source,
        )
        for view, element in read.items()
    )


NEOADJUVANT = doses("AP01EXSRC", *UP_TO_SURGERY)
ADJUVANT = doses("AP02EXSRC", *AFTER_SURGERY)
# The study drug is among the drugs of cancer: given before time 0 there is none by definition.
PRIOR = tuple(
    Evidence(view, elements, (element, ("antineoplastic",)), bounds=(Bound("<", "TRTSDT"),))
    for view, element, elements in (
        ("medication_administration", "medication", ("MedicationAdministration.medication[x]",)),
        ("medication_dispense", "medication", ("MedicationDispense.medication[x]",)),
        ("medication_statement", "medication", ("MedicationStatement.medication[x]",)),
        ("procedure", "code", ("Procedure.code", "Procedure.performed[x]")),
    )
)
RESECTED = ("Procedure.code", "Procedure.status", "Procedure.performed[x]")
SURGERY = (
    Evidence("procedure", RESECTED, ("code", ("surgery-type",)), None, AFTER_TIME_0),
    Evidence("procedure", RESECTED, ("code", ("resected-lobe",)), None, AFTER_TIME_0),
)
# Some hospitals code the question, others say by the value alone that it is a response.
RECIST = (
    *answered((), ("recist",), BEFORE_SURGERY),
    *answered(("recist-code",), ("recist",), BEFORE_SURGERY),
)
FOLLOWED = (
    *answered((), ("recist",), AFTER_TIME_0),
    *answered(("disease-status-code",), ("disease-status",), AFTER_TIME_0),
    Evidence(
        "condition",
        ("Condition.code", "Condition.onset[x]"),
        ("code", ("recurrence-condition",)),
        None,
        AFTER_TIME_0,
    ),
    Evidence(
        "condition",
        ("Condition.code", "Condition.onset[x]"),
        ("code", ("regional-node-metastasis",)),
        None,
        AFTER_TIME_0,
    ),
)
VIABLE_PRIMARY = answered(("residual-viable-tumour-code",), (), FROM_SURGERY, "Observation.method")
VIABLE_NODES = answered(("residual-viable-tumour-nodes-code",), (), FROM_SURGERY, "Observation.method")
CENTRAL = (Evidence("observation", ("Observation.method",), ("method", ("central-review",)), None, FROM_SURGERY),)
YP = answered(("post-therapy-descriptor",), (), FROM_SURGERY)[:1]
YPT = (
    *answered((), ("post-therapy-t", "pathological-t"), FROM_SURGERY),
    *answered(("pathological-t-code",), (), FROM_SURGERY),
    *YP,
)
YPN = (
    *answered((), ("post-therapy-n", "pathological-n"), FROM_SURGERY),
    *answered(("pathological-n-code",), (), FROM_SURGERY),
    *YP,
)
# The observation of a death is as good as the patient record; a fatal event without either is a conflict.
DEATH = (
    Evidence("patient", ("Patient.deceased[x]",)),
    Evidence("observation", ("Observation.code", "Observation.effective[x]"), ("code", ("death",))),
    Evidence(
        "adverse_event",
        ("AdverseEvent.outcome",),
        ("outcome", ("fatal-outcome",)),
        against="a fatal outcome, which is told; a death is recorded by the patient or by an observation",
    ),
)
# A request or a report shows nobody alive, so that they are not among them.
SEEN = (
    Evidence("observation", ("Observation.effective[x]",)),
    *doses(""),
    Evidence("procedure", ("Procedure.performed[x]",)),
    Evidence("adverse_event", ("AdverseEvent.date",)),
)
EDITION = ("Observation.method",)
PATHOLOGICAL_STAGE = Evidence(
    "observation", OBSERVED, ("code", ("pathological-stage-code",)), against="a pathological stage group"
)
MARGIN = (
    *answered(("residual-tumour-code",), ("residual-tumour",), FROM_SURGERY),
    Evidence("procedure", ("Procedure.outcome",), ("outcome", ("residual-tumour",)), None, FROM_SURGERY),
)
