"""The seed patients by what they are for, and the sample documents."""

from __future__ import annotations

from tests.stories.client import fresh
from tests.stories.process import ROOT

INS_ROOT = "1.2.250.1.213.1.4.10"
#: In the order of samples/patients.toml
CAMILLE, MARCEL, CLOSED, OPPOSED, BLOCKING, MINOR, MASKING, NEW, MANY = (
    f"{ins}^^^&{INS_ROOT}&ISO^NH" for ins in (
        "258059999900193", "134119999900256", "271029999900385", "165099999900455", "289129999900540",
        "114039999900631", "293079999900753", "101019999900852", "247109999900925"))


def sample(name: str) -> bytes:
    """A document of `samples/`."""
    return (ROOT / "samples" / name).read_bytes()


def document(name: str = "vsm.xml", patient: str = "", insertion: bytes = b"") -> bytes:
    """A sample as a document of its own, for its patient or for another one."""
    content = fresh(sample(name), insertion)
    ins = MARCEL if name == "dlu.xml" else CAMILLE
    return content.replace(ins.split("^")[0].encode(), patient.split("^")[0].encode()) if patient else content
