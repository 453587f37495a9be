"""Names and UUIDs of XDS.b metadata, exactly as the standards write them (ITI TF-3 §4.2, ebRS and ebRIM 3.0)."""

from __future__ import annotations

from types import SimpleNamespace

# Namespaces
RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
XDSB = "urn:ihe:iti:xds-b:2007"
XOP = "http://www.w3.org/2004/08/xop/include"

# Status, availability, severity (ITI TF-3 §4.2.3.2.2, table 4.2.4.1-2)
APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
DEPRECATED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
FAILURE = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
PARTIAL_SUCCESS = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"
SEVERITY_ERROR = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error"
SEVERITY_WARNING = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Warning"
ONLINE = "urn:ihe:iti:2010:DocumentAvailability:Online"
OFFLINE = "urn:ihe:iti:2010:DocumentAvailability:Offline"

# Object types (ITI TF-3 §4.2.5)
STABLE = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
ON_DEMAND = "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248"
REGISTRY_PACKAGE = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:RegistryPackage"
ASSOCIATION = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:Association"
CLASSIFICATION = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:Classification"
EXTERNAL_IDENTIFIER = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:ExternalIdentifier"
SUBMISSION_SET_NODE = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
FOLDER_NODE = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"

#: Classification schemes and external identifiers of a DocumentEntry (ITI TF-3 table 4.2.5.2-1)
DOCUMENT = SimpleNamespace(
    author="urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d",
    class_code="urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a",
    confidentiality="urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f",
    event_code="urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4",
    format_code="urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d",
    facility_type="urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1",
    practice_setting="urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead",
    type_code="urn:uuid:f0306f51-975f-434e-a61c-c59651d33983",
    limited_metadata="urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85",
    patient_id="urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427",
    unique_id="urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab",
)
#: The same of a SubmissionSet
SUBMISSION_SET = SimpleNamespace(
    author="urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d",
    content_type="urn:uuid:aa543740-bdda-424e-8c96-df4873be8500",
    limited_metadata="urn:uuid:5003a9db-8d8d-49e6-bf0c-990e34ac7707",
    patient_id="urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446",
    source_id="urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832",
    unique_id="urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8",
)
#: The same of a Folder
FOLDER = SimpleNamespace(
    codes="urn:uuid:1ba97051-7806-41a8-a48b-8fce7af683c5",
    limited_metadata="urn:uuid:2c144a76-29a9-4b7c-af54-b25409fe7d03",
    patient_id="urn:uuid:f64ffdf0-4b97-4e06-b79f-a52b38ec2f8a",
    unique_id="urn:uuid:75df8f67-9973-4fbe-a900-df66cefecc5a",
)
ASSOCIATION_DOCUMENTATION = "urn:uuid:abd807a3-4432-4053-87b4-fd82c643d1f3"

# Association types (ITI TF-3 table 4.2.2.2-1, ITI TF-2 §3.57)
HAS_MEMBER = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
RPLC = "urn:ihe:iti:2007:AssociationType:RPLC"
XFRM = "urn:ihe:iti:2007:AssociationType:XFRM"
XFRM_RPLC = "urn:ihe:iti:2007:AssociationType:XFRM_RPLC"
APND = "urn:ihe:iti:2007:AssociationType:APND"
SIGNS = "urn:ihe:iti:2007:AssociationType:signs"
IS_SNAPSHOT_OF = "urn:ihe:iti:2010:AssociationType:IsSnapshotOf"
UPDATE_AVAILABILITY = "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus"
SUBMIT_ASSOCIATION = "urn:ihe:iti:2010:AssociationType:SubmitAssociation"

#: Types that bind a document to another one
RELATIONSHIPS = frozenset({RPLC, XFRM, XFRM_RPLC, APND, SIGNS, IS_SNAPSHOT_OF})
#: Those that take the place of their target
REPLACEMENTS = frozenset({RPLC, XFRM_RPLC})
ASSOCIATION_TYPES = RELATIONSHIPS | {HAS_MEMBER, UPDATE_AVAILABILITY, SUBMIT_ASSOCIATION}

REFERENCE_ID_SLOT = "urn:ihe:iti:xds:2013:referenceIdList"
EMPTY_SHA1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
