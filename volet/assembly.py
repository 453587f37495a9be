"""The house put together: settings in, a server's parts out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

from dmp.profile import DmpProfile, Signature
from journal.database import Database
from journal.exchanges import Journal, Keeping
from registry import affinity, requirements
from registry.affinity import AffinityDomain
from registry.codes import CodeBook
from registry.profile import PlainProfile, Profile
from registry.register import Registry
from registry.requirements import Requirements
from registry.rows import BASIC_NAMES
from registry.transactions import Services
from repository.provide import Repository
from repository.store import FolderStore
from security.trust import TrustStore
from security.vihf import Cache
from security.vihf_rules import VihfPolicy
from volet.communities import Communities, load
from volet.settings import ProfileName, Settings
from xds.mtom import Limits


@dataclass(frozen=True, slots=True)
class Server:
    """Everything a request may need. One a process."""

    settings: Settings
    repository: Repository
    journal: Journal
    trust: TrustStore | None
    cache: Cache
    limits: Limits
    communities: Communities = field(default_factory=dict)

    @property
    def services(self) -> Services:
        """The registry's side."""
        return self.repository.services

    @property
    def profile(self) -> Profile:
        """Whose rules hold."""
        return self.services.profile

    def policy(self, over_tls: bool) -> VihfPolicy:
        """How a VIHF is judged on a door; without TLS each counts once."""
        settings = self.settings
        return VihfPolicy(max_age=timedelta(seconds=settings.vihf_max_age),
                          clock_skew=timedelta(seconds=settings.clock_skew), tls_required=over_tls,
                          one_time=settings.vihf_one_time)

    def close(self) -> None:
        """Let go of the databases."""
        self.services.registry.database.close()
        self.journal.database.close()


def migrate(settings: Settings) -> None:
    """Bring all tables to their newest version; before any worker starts."""
    for url, rooms in ((settings.database_url, ("registry", "dmp")), (settings.journal_url, ("journal",))):
        database = Database(url)
        for room in rooms:
            database.migrate(room)
        database.close()


def build(settings: Settings) -> Server:
    """Open what is there; `migrate` and `init` came before."""
    database = Database(settings.database_url)
    book = CodeBook(database)
    book.ensure(BASIC_NAMES)
    trust = _trust(settings)
    profile = _profile(settings, trust)
    store = FolderStore(settings.documents_folder)
    content = settings.journal_content if settings.is_test else 0
    return Server(
        settings, Repository(store, Services(Registry(database, book, profile.domain), profile)),
        Journal(Database(settings.journal_url, durable=False), Keeping(settings.journal_exchanges, content)),
        trust, Cache(), Limits(part=settings.max_document_bytes, total=settings.max_request_bytes),
        load(settings.communities, profile.domain.home))


def _trust(settings: Settings) -> TrustStore | None:
    folder = settings.data / "pki"
    if settings.profile is ProfileName.IHE and not folder.is_dir():
        return None
    return TrustStore(folder, accept_test=settings.is_test, crl_policy=settings.crl_policy)


def _profile(settings: Settings, trust: TrustStore | None) -> Profile:
    if settings.profile is ProfileName.IHE:
        return PlainProfile(_domain(settings, "affinity-ihe.toml", "registry"))
    assert trust is not None
    domain = _domain(settings, "affinity.toml", "dmp")
    return DmpProfile(domain, cache(_dmp_matrix), trust.current,
                                                    Signature(settings.signature))


def _dmp_matrix(transaction: str) -> Requirements:
    return requirements.load(transaction, "registry", "dmp")


def _domain(settings: Settings, name: str, package: str) -> AffinityDomain:
    return affinity.load(settings.affinity) if settings.affinity else affinity.load(name, package)

