"""The README's story as a newcomer types it: every command a process of its own, its answer and exit status."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stories.client import Card, Client
from tests.stories.process import ROOT, VOLET, Server
from tests.stories.samples import CAMILLE, CLOSED, MARCEL, OPPOSED, document, sample

INS = {name: patient.split("^")[0] for name, patient in (
    ("camille", CAMILLE), ("marcel", MARCEL), ("closed", CLOSED), ("opposed", OPPOSED))}


class Typed:
    """What a command said and how it ended."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status, self.out, self.error = done.returncode, done.stdout, done.stderr
        assert "Traceback" not in self.out + self.error

    @property
    def answer(self) -> Any:
        """The answer for programs."""
        return json.loads(self.out)

    @property
    def findings(self) -> list[str]:
        """Codes of the findings in the answer."""
        return [finding["code"] for finding in self.answer["findings"]]


@pytest.fixture(scope="module")
def volet(server: Server) -> Callable[..., Typed]:
    """Type a command; cards by their names, as beside `var/`."""
    environment = {**server.environment, "VOLET_DATA": str(server.data), "VOLET_URL": server.url(),
                   "VOLET_HTTP_URL": server.url(door="http"), "VOLET_LANG": "fr"}

    def run(*arguments: object) -> Typed:
        return Typed(subprocess.run([*VOLET, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True,
                                    text=True, timeout=60))

    return run


def file_of(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_a_vsm_from_one_doctor_to_another(volet: Callable[..., Typed], tmp_path: Path) -> None:
    vsm = document()
    pushed = volet("push", file_of(tmp_path, "vsm.xml", vsm), "--card", "medecin-traitant", "--json")
    assert (pushed.status, pushed.answer["status"], pushed.findings) == (0, "Success", [])
    (unique_id,) = (made["unique_id"] for made in pushed.answer["documents"])
    found = volet("find", "--card", "cardiologue", "--patient", INS["camille"], "--type", "SYNTH", "--json")
    (listed,) = (made for made in found.answer["documents"] if made["unique_id"] == unique_id)
    assert (found.status, listed["type"], listed["status"]) == (0, "SYNTH", "approved")
    got = volet("get", unique_id, "--card", "cardiologue", "--patient", INS["camille"], "-o", tmp_path / "received")
    assert got.status == 0, got.error
    assert [path.read_bytes() for path in (tmp_path / "received").iterdir()] == [vsm]


def test_a_dlu_from_a_care_home_to_the_samu(volet: Callable[..., Typed], tmp_path: Path) -> None:
    dlu = file_of(tmp_path, "dlu.xml", document("dlu.xml"))
    assert volet("push", dlu, "--card", "ehpad").status == 0
    asked = ("find", "--patient", INS["marcel"], "--json")
    read = volet(*asked, "--card", "regulateur-samu", "--mode", "centre_15")
    assert read.status == 0
    assert "74207-2" in [made["type"] for made in read.answer["documents"]]
    for card in ("ehpad", "secretaire-cpe"):
        refused = volet(*asked, "--card", card)
        assert (refused.status, refused.answer["documents"]) == (1, [])
        assert refused.findings == ["V-DMP-NOT-ENTITLED"]
    journal = volet("journal", "--limit", "4", "--json")
    assert [exchange["verdict"] for exchange in journal.answer] == ["accepted", "accepted", "refused", "refused"]
    assert [exchange["name"] for exchange in journal.answer] == ["ITI-41", "ITI-18", "ITI-18", "ITI-18"]


def test_a_bad_card_is_refused_and_the_reason_said(volet: Callable[..., Typed]) -> None:
    refused = volet("find", "--card", "revoked", "--patient", INS["camille"], "--json")
    assert (refused.status, refused.findings) == (1, ["V-SEC-CRL-REVOKED"])


def test_refusals_in_words(volet: Callable[..., Typed], tmp_path: Path, server: Server) -> None:
    kept = server.kept()
    closed = volet("push", file_of(tmp_path, "closed.xml", document(patient=CLOSED)), "--card", "medecin-traitant")
    assert closed.status == 1
    assert "fermé" in closed.out + closed.error
    opposed = volet("find", "--card", "regulateur-samu", "--patient", INS["opposed"], "--mode", "bris_de_glace",
                    "--reason", "Inconscient", "--json")
    assert (opposed.status, opposed.findings) == (1, ["V-DMP-OPPOSED"])
    usage = volet("find", "--card", "regulateur-samu", "--patient", INS["opposed"], "--mode", "bris_de_glace")
    assert usage.status == 2
    nothing = volet("push", file_of(tmp_path, "no.xml", b"<html/>"), "--card", "medecin-traitant", "--json")
    assert nothing.status == 1
    assert server.kept() == kept


def test_a_new_version_by_its_number(volet: Callable[..., Typed], tmp_path: Path) -> None:
    one, other = (file_of(tmp_path, name, document("ordonnance.xml")) for name in ("a.xml", "b.xml"))
    push = ("push", "--card", "medecin-traitant", "--json")
    old = volet(*push, one).answer["documents"][0]["unique_id"]
    second = volet(*push, other, "--replace", old)
    assert (second.status, second.answer["status"]) == (0, "Success")
    found = volet("find", "--card", "medecin", "--patient", INS["camille"], "--status", "deprecated", "--json")
    assert old in [made["unique_id"] for made in found.answer["documents"]]


def test_many_documents_at_once(volet: Callable[..., Typed], tmp_path: Path, server: Server) -> None:
    """More documents in one answer than one message may bring in."""
    client = Client(server, Card(server.data / "cards" / "medecin-traitant"))
    unique_ids = []
    for _ in range(3):
        lot, reply = client.feed(*(document("ordonnance.xml") for _ in range(20)))
        assert reply.status == "Success"
        unique_ids += [entry.unique_id for entry in lot.documents]
    got = volet("get", *unique_ids, "--card", "medecin", "--patient", INS["camille"], "-o", tmp_path / "received")
    assert got.status == 0, got.out + got.error
    assert len(list((tmp_path / "received").iterdir())) == 60


def test_the_plain_port_serves_as_well(volet: Callable[..., Typed], tmp_path: Path, server: Server) -> None:
    pushed = volet("push", file_of(tmp_path, "vsm.xml", document()), "--card", "medecin-traitant", "--json",
                   "--url", server.url(door="http"))
    assert (pushed.status, pushed.answer["status"]) == (0, "Success")


def test_cards_are_listed_and_explained(volet: Callable[..., Typed]) -> None:
    listed = volet("card", "list", "--json")
    assert listed.status == 0
    assert {"medecin-traitant", "ehpad", "revoked"} <= {card["card"] for card in listed.answer}
    shown = volet("card", "show", "revoked", "--json")
    assert shown.status == 1
    assert "V-SEC-CRL-REVOKED" in shown.out


def test_a_server_that_is_not_there_is_said_to_be_none(volet: Callable[..., Typed]) -> None:
    silent = volet("find", "--card", "medecin", "--patient", INS["camille"], "--url", "https://127.0.0.1:9", "--json")
    assert silent.status == 1
    assert silent.findings == ["V-VOLET-CLIENT-UNREACHABLE"]


def test_the_readme_tells_the_story_that_runs_here() -> None:
    """Commands of the README's first minute are those tried above, and the samples those that it names."""
    text = (ROOT / "README.md").read_text("utf-8")
    for command in ("volet push samples/vsm.xml --card var/cards/medecin-traitant",
                    "volet find --card var/cards/cardiologue --patient 258059999900193",
                    "volet push samples/dlu.xml --card var/cards/ehpad",
                    "volet find --card var/cards/regulateur-samu --mode centre_15 --patient 134119999900256"):
        assert command in text
    assert INS["camille"].encode() in sample("vsm.xml")
    assert INS["marcel"].encode() in sample("dlu.xml")
