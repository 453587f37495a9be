"""What reading and writing one submission costs: one document with the attributes that most submissions carry."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from xds import ebxml, rim, xml
from xds.model import Association, Author, Code, DocumentEntry, Submission, SubmissionSet
from xds.vocabulary import HAS_MEMBER, RIM

AUTHOR = Author(
    persons=("801234567897^EXEMPLE^Camille^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",),
    institutions=("CABINET EXEMPLE^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1750000000",),
    specialties=("G15_10/SM54^Médecine générale^1.2.250.1.71.4.2.5",),
)
PATIENT = "199999999999995^^^&1.2.250.1.213.1.4.10&ISO^NH"


def code(value: str) -> Code:
    """A coded value under a fictitious scheme."""
    return Code(value, "1.2.3.4.5", rim.localized(f"Libellé de {value}", "fr-FR"))


DOCUMENT = DocumentEntry(
    id="urn:uuid:6c1b0c5e-0001-4000-8000-000000000001", unique_id="1.2.3.4.5.1", patient_id=PATIENT,
    mime_type="text/xml", title=rim.localized("Volet de synthèse médicale", "fr-FR"), authors=(AUTHOR,),
    class_code=code("11"), type_code=code("60591-5"), format_code=code("urn:example:vsm"), facility_type=code("SA07"),
    practice_setting=code("AMBULATOIRE"), confidentiality=(code("N"),), creation_time="20250102030405",
    language="fr-FR", hash="da39a3ee5e6b4b0d3255bfef95601890afd80709", size="54321",
    repository_unique_id="1.2.3.4.5.9", source_patient_id=PATIENT, service_start="20250102030000",
    source_patient_info=("PID-5|EXEMPLE^Dominique^^^^^L", "PID-7|19990101", "PID-8|F"),
)
SET = SubmissionSet(
    id="urn:uuid:6c1b0c5e-0002-4000-8000-000000000002", unique_id="1.2.3.4.5.2", source_id="1.2.3.4.5",
    patient_id=PATIENT, submission_time="20250102030405", authors=(AUTHOR,), content_type=code("04"),
)
MEMBER = Association("urn:uuid:6c1b0c5e-0003-4000-8000-000000000003", HAS_MEMBER, SET.id, DOCUMENT.id,
                     submission_set_status="Original")
SUBMISSION = Submission(sets=(SET,), documents=(DOCUMENT,), associations=(MEMBER,))


def cases() -> Iterator[tuple[str, Callable[[], object]]]:
    """The stages between bytes and values, and all of them together."""
    objects = ebxml.from_submission(SUBMISSION)
    data = f'<rim:RegistryObjectList xmlns:rim="{RIM}">{"".join(map(rim.write, objects))}</rim:RegistryObjectList>'
    body = data.encode()
    element = xml.parse(body)
    yield f"parse {len(body)} bytes of XML", lambda: xml.parse(body)
    yield "XML to ebRIM objects", lambda: rim.read_list(element)
    yield "ebRIM objects to model", lambda: ebxml.to_submission(objects)
    yield "bytes to model", lambda: ebxml.to_submission(rim.read_list(xml.parse(body))[0])
    yield "model to ebRIM objects", lambda: ebxml.from_submission(SUBMISSION)
    yield "ebRIM objects to text", lambda: list(map(rim.write, objects))
