"""Settings: command line over `VOLET_*` variables over a TOML file over defaults; wrong ones stop the start."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from security.addresses import AllowList


class ProfileName(StrEnum):
    """Whose rules hold: plain IHE, or the French record's on top."""

    IHE = "ihe"
    DMP = "dmp"


class Mode(StrEnum):
    """Test: demonstration PKI, plain HTTP on loopback, journal with content. Production: none of it."""

    TEST = "test"
    PRODUCTION = "production"


class Settings(BaseSettings):
    """Everything an operator may set."""

    model_config = SettingsConfigDict(env_prefix="VOLET_", extra="forbid", frozen=True,
                                      toml_file=os.environ.get("VOLET_CONFIG"))

    profile: ProfileName = Field(ProfileName.DMP, description="dmp or ihe")
    mode: Mode = Field(Mode.TEST, description="test or production")
    data: Path = Field(Path("var"), description="folder of database, documents, PKI and cards")
    http: str = Field("127.0.0.1:8080", description="plain HTTP, loopback only, test mode only")
    https: str = Field("127.0.0.1:8443", description="TLS 1.2/1.3 with client certificate")
    database: str = Field("", description="SQLAlchemy URL; default SQLite in the data folder")
    documents: str = Field("", description="folder of documents; default in the data folder")
    workers: int = Field(1, ge=1, le=64, description="processes for each listener")
    threads: int = Field(8, ge=1, le=256, description="threads of each process")
    affinity: Path | None = Field(None, description="affinity domain file instead of the profile's own")
    communities: Path | None = Field(
        None, description="TOML file of the other communities that the initiating gateway asks (XCA)")
    mllp: str = Field("", description="HOST:PORT of the HL7 v2 patient feed (ITI-8); empty: off")
    vihf_max_age: int = Field(300, ge=1, le=8 * 3600, description="seconds a VIHF is good for after its IssueInstant")
    vihf_one_time: bool = Field(False, description="take each VIHF once only, over TLS too")
    clock_skew: int = Field(60, ge=0, le=600, description="seconds of difference allowed between clocks")
    signature: Literal["required", "accepted", "ignored"] = Field(
        "required", description="signature of the submission set, under the dmp profile")
    crl_policy: Literal["strict", "lenient"] = Field(
        "strict", description="what an absent or outdated revocation list means")
    client_certificate: Literal["application", "handshake"] | None = Field(
        None, description="who refuses a bad client certificate: the application, in words (test), or TLS (production)")
    sender_fault_status: Literal[400, 500] = Field(
        400, description="HTTP status of faults of the sender; 500 for stacks that do not read the body of a 400 (CXF)")
    push_addresses: list[str] = Field(
        [], description="URL prefixes that may be called: notifications and asynchronous answers; none: no calls")
    push_ca: Path | None = Field(None, description="trust anchors (PEM) of those who are called; default the system's")
    push_certificate: Path | None = Field(
        None, description="certificate and key (PEM, one file) shown to those who are called and ask for one")
    server_names: list[str] = Field([], description="further names of the TLS server certificate made by init")
    max_document_bytes: int = Field(128 * 1024 * 1024, ge=1024, description="largest document")
    max_request_bytes: int = Field(512 * 1024 * 1024, ge=1024, description="largest request")
    journal_exchanges: int = Field(20_000, ge=100, description="exchanges that the journal keeps")
    journal_content: int = Field(256 * 1024, ge=0, description="bytes of each message that the journal keeps (test)")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource) -> tuple[PydanticBaseSettingsSource, ...]:  # noqa: ARG003
        """Command line, environment, TOML file; no `.env`, no secrets folder."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @field_validator("http", "https", "mllp")
    @classmethod
    def _address(cls, value: str) -> str:
        host, separator, port = value.rpartition(":")
        if value and not (separator and host and port.isdigit() and 0 <= int(port) < 65536):
            raise ValueError("HOST:PORT is expected")
        return value

    @field_validator("push_addresses")
    @classmethod
    def _prefixes(cls, value: list[str]) -> list[str]:
        AllowList.of(value)
        return value

    @property
    def is_test(self) -> bool:
        """Whether demonstration anchors, plain HTTP and content in the journal are allowed."""
        return self.mode is Mode.TEST

    @property
    def database_url(self) -> str:
        """Where registry and record are kept."""
        return self.database or f"sqlite:///{self.data.absolute() / 'volet.db'}"

    @property
    def journal_url(self) -> str:
        """Where the journal is kept: a file of its own on SQLite, so that it never waits for the registry."""
        return self.database or f"sqlite:///{self.data.absolute() / 'journal.db'}"

    @property
    def documents_folder(self) -> Path:
        """Where documents are kept."""
        return Path(self.documents) if self.documents else self.data / "documents"

    @property
    def refuses_in_handshake(self) -> bool:
        """Whether TLS itself refuses client certificates; in test mode the application does, saying why."""
        if self.client_certificate is None:
            return not self.is_test
        return self.client_certificate == "handshake"


def address(text: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT; brackets of an IPv6 address are taken off."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
