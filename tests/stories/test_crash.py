"""kill -9 in the middle of submissions: what was acknowledged is there afterwards, the rest wholly or not at all."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
import requests

from tests.stories.client import Lot, new_oid
from tests.stories.ihe import Toolkit, folder, member, new_patient, plain_lot
from tests.stories.process import Server
from tests.stories.wholeness import Sent, faults, unreferenced
from xds.findings import Refused
from xds.model import Submission

SENDERS = 4
GET_SET = "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83"


@dataclass
class Sender:
    """A client that sends lot after lot until nobody answers any more."""

    server: Server
    patients: list[str]
    chance: random.Random
    acknowledged: list[Sent] = field(default_factory=list)
    others: list[Sent] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        toolkit = Toolkit(self.server)
        while not stop.is_set():
            lot = self.make_lot()
            sent = Sent.of(lot)
            self.others.append(sent)  # until it is answered
            try:
                reply = toolkit.provide(lot)
            except (requests.RequestException, Refused):  # no answer, or half of one
                return
            assert reply.status == "Success", (reply.findings, self.server.errors_logged())
            self.others.remove(sent)
            self.acknowledged.append(sent)

    def make_lot(self) -> Lot:
        """One to three documents, now and then a large one, in a folder every other time."""
        patient, chance = self.chance.choice(self.patients), self.chance
        sizes = [chance.choice((10, 5000, 5000, 60_000, 1_500_000)) for _ in range(chance.randint(1, 3))]
        lot = plain_lot(patient, *(chance.randbytes(size) for size in sizes))
        if chance.random() < 0.5:
            return lot
        made, the_set = folder(patient), lot.submission.submission_set.id
        inner = [member(made.id, entry.id, "") for entry in lot.submission.documents]
        links = [*inner, member(the_set, made.id, ""), *(member(the_set, link.id, "") for link in inner)]
        whole = lot.submission
        return Lot(Submission(whole.sets, whole.documents, (made,), (*whole.associations, *links)), lot.contents)


def one_cycle(server: Server, patients: list[str], chance: random.Random) -> tuple[list[Sent], list[Sent]]:
    """Send from all sides, kill in the middle; what was acknowledged, what was not."""
    senders = [Sender(server, patients, random.Random(chance.random())) for _ in range(SENDERS)]
    stop = threading.Event()
    with ThreadPoolExecutor(SENDERS) as pool:
        running = [pool.submit(sender.run, stop) for sender in senders]
        time.sleep(chance.uniform(0.15, 0.6))
        server.kill()
        stop.set()
        for one in running:
            one.result(timeout=30)
    return ([sent for sender in senders for sent in sender.acknowledged],
            [sent for sender in senders for sent in sender.others])


def everything_is_retrieved(server: Server, acknowledged: list[Sent]) -> None:
    """Through the door: every acknowledged set is found, every document comes back with the right digest."""
    toolkit = Toolkit(server)
    for sent in acknowledged:
        found = toolkit.query(GET_SET, XDSSubmissionSetUniqueId=f"'{sent.set_id}'").found
        assert {entry.unique_id for entry in found.documents} == set(sent.documents)
        assert len(found.associations) >= len(sent.documents)
        reply = toolkit.retrieve(*((entry.repository_unique_id, entry.unique_id) for entry in found.documents))
        assert reply.status == "Success"
        assert {name: hashlib.sha256(content).digest() for name, content in reply.contents.items()} == sent.documents


def crash_and_check(server: Server, cycles: int, seed: int) -> None:
    chance = random.Random(seed)
    patients = [new_patient(server, f"crash-{seed}-{number}") for number in range(3)]
    acknowledged: list[Sent] = []
    others: list[Sent] = []
    for _ in range(cycles):
        answered, unanswered = one_cycle(server, patients, chance)
        acknowledged, others = acknowledged + answered, others + unanswered
        assert faults(server.data, acknowledged, others) == []
        server.start()
        assert faults(server.data, acknowledged, others) == []
        everything_is_retrieved(server, answered)
    everything_is_retrieved(server, acknowledged)
    assert len(acknowledged) > 5 * cycles  # something was going on
    assert len(unreferenced(server.data)) <= sum(len(sent.documents) for sent in others)
    assert Toolkit(server).provide(plain_lot(patients[0], new_oid().encode())).status == "Success"


@pytest.fixture
def crashing(make_server: Callable[..., Server]) -> Server:
    return make_server("crashing", "--profile", "ihe", workers="2")


def test_killed_in_the_middle_of_submissions(crashing: Server) -> None:
    crash_and_check(crashing, cycles=5, seed=20260914)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_killed_again_and_again(crashing: Server, seed: int) -> None:
    crash_and_check(crashing, cycles=10, seed=seed)
