"""`volet card`: what a certificate says, in words, and whether it would be accepted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID

from security.anchors import TrustError, authority_of
from security.cards import MAX_BYTES, MAX_CHAIN, describe, load_certificate, load_chain, read_identity
from security.identity import Identity, Kind
from security.trust import Purpose, Trust
from volet.cli import options
from volet.cli.options import DataOption, JsonOption, LangOption
from volet.cli.show import Lang, View, answering, echo, finish, show_table
from volet.client.answers import of_findings
from volet.client.card import CardError, find_folder, read_description
from xds.findings import Catalogue, Refused, Where

ANCHORS = Catalogue("volet")["V-VOLET-CLIENT-ANCHORS"]

SERVER, AUTHORITY = "server", "authority"

What = Annotated[str, typer.Argument(metavar="FILE|DIR|NAME", help="Certificate (PEM, DER), folder of a card, or name "
                                                                   "of a card of var/cards.")]
Anchors = Annotated[Path | None, typer.Option("--ca", metavar="PATH", exists=True,
                                              help="Trust anchors: a pki folder or a ca.pem. [pki/ beside the cards]")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Cards and certificates.",
                        epilog="Example: volet card show medecin")
    group.command(epilog="Example: volet card show medecin --lang en")(show)
    group.command("list", epilog="Example: volet card list --data var")(list_cards)
    app.add_typer(group, name="card")


# --- show ----------------------------------------------------------------------------------------------------------


def show(what: What, ca: Anchors = None, lang: LangOption = Lang.FR, as_json: JsonOption = False) -> None:
    """Explain a certificate in words.

    Holder, profession, what it is good for, and whether the trust anchors accept it.
    """
    view, files = View(lang, as_json), _files(what)
    anchors = ca or _beside(files[0])
    with answering(view, {"certificates": []}):
        shown = [_examine(path, anchors) for path in files]
    finish(view, {"certificates": shown, "findings": [item for one in shown for item in one["findings"]]},
           lambda: _show(view, shown))


def _files(what: str) -> list[Path]:
    path = find_folder(what, options.data_folder()) if not Path(what).is_file() else Path(what)
    files = [path] if path.is_file() else [file for file in (path / "auth.pem", path / "sign.pem") if file.is_file()]
    if not files:
        raise typer.BadParameter(f"{path}: no certificate there (`volet card list` shows the cards)")
    return files


def _beside(file: Path) -> Path | None:
    """`pki/` beside the cards, when the certificate stands in a card's folder."""
    folder = options.pki_beside(file.parent)
    return folder if (folder / "ca.pem").is_file() else None


def _examine(path: Path, anchors: Path | None) -> dict[str, Any]:
    """Everything told of one certificate; `Refused` when it cannot be read at all."""
    with path.open("rb") as file:
        data = file.read(MAX_CHAIN * MAX_BYTES + 1)
    certificate = load_chain(data)[0] if b"-----BEGIN CERTIFICATE" in data else load_certificate(data)
    purposes, said = _purposes(certificate), describe(certificate)
    facts = {"file": str(path), "subject": said["subject"], "issuer": said["issuer"], "serial": said["serial"],
             "not_before": certificate.not_valid_before_utc.isoformat(),
             "not_after": certificate.not_valid_after_utc.isoformat(),
             "fingerprint": certificate.fingerprint(SHA256()).hex(), "purposes": purposes,
             "anchors": str(anchors or "")}
    try:
        identity = None if AUTHORITY in purposes else read_identity(certificate)
        facts |= _holder(identity) if identity else {}
        if anchors is not None:
            _check(certificate, purposes, _trust(anchors, identity.is_test if identity else _is_test(certificate)))
    except Refused as refused:
        there = [replace(found, where=replace(found.where, part=str(path))) for found in refused.findings]
        return facts | {"verdict": "refused", "findings": list(of_findings(there))}
    return facts | {"verdict": "accepted" if anchors else "unchecked", "findings": []}


def _check(certificate: x509.Certificate, purposes: Iterable[str], trust: Trust) -> None:
    """`Refused` unless the anchors accept it for all that it is good for, or it is one of them."""
    if any(authority.certificate == certificate for authority in trust.authorities):
        return
    wanted = [purpose for purpose in Purpose if purpose in purposes]
    # one that is good for neither is refused as what cards are taken for first
    for purpose in wanted or [Purpose.AUTHENTICATION]:
        trust.verify(certificate, purpose, datetime.now(UTC))


def _is_test(certificate: x509.Certificate) -> bool:
    return authority_of(certificate).is_test


def _holder(identity: Identity) -> dict[str, Any]:
    return {
        "kind": str(identity.kind), "holder": identity.name, "identifier": identity.national_id,
        "card_type": str(identity.card_type), "card_number": identity.card_number,
        "range": "test" if identity.is_test else "production", "profession": identity.profession,
        "future_profession": identity.future_profession, "specialities": list(identity.specialities),
        "structure": {"id": identity.structure_id, "name": identity.structure_name}}


#: What a certificate is good for -> key usages and extended key usage that make it so (RFC 5280 §4.2.1.3, §4.2.1.12)
_NEEDED: Mapping[str, frozenset[object]] = {
    Purpose.AUTHENTICATION: frozenset({"digital_signature", ExtendedKeyUsageOID.CLIENT_AUTH}),
    Purpose.SIGNATURE: frozenset({"content_commitment", ExtendedKeyUsageOID.EMAIL_PROTECTION}),
    SERVER: frozenset({"digital_signature", ExtendedKeyUsageOID.SERVER_AUTH}),
    AUTHORITY: frozenset({"key_cert_sign"}),
}


def _purposes(certificate: x509.Certificate) -> list[str]:
    usages: set[object] = set()
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.KeyUsage):
            names = ("digital_signature", "content_commitment", "key_cert_sign")
            usages |= {name for name in names if getattr(extension.value, name)}
        elif isinstance(extension.value, x509.ExtendedKeyUsage):
            usages |= set(extension.value)
    return [str(purpose) for purpose, needed in _NEEDED.items() if needed <= usages]


def _trust(anchors: Path, is_test: bool) -> Trust:
    """Anchors of a pki folder with its revocation lists, or of a file, then without."""
    try:
        if anchors.is_dir():
            return Trust.load(anchors, accept_test=is_test)
        return Trust.of({anchors.name: anchors.read_bytes()}, {}, accept_test=is_test, crl_policy="lenient")
    except TrustError as error:
        raise Refused(ANCHORS.at(Where("--ca"), received=error)) from error


def _show(view: View, shown: Sequence[Mapping[str, Any]]) -> None:
    for one in shown:
        echo(one["file"])
        for key, text in _lines(view, one):
            echo(f"    {view.word(key):<14} {text}")


def _lines(view: View, one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "holder" in one:
        yield from _holder_lines(view, one)
    else:
        yield "subject", one["subject"]
    yield "issuer", one["issuer"]
    yield "validity", f"{one['not_before'][:10]} {view.word('until')} {one['not_after'][:10]}"
    yield "usage", " ; ".join(view.word(purpose) for purpose in one["purposes"]) or view.word("neither")
    verdict = {"accepted": "trusted", "refused": "distrusted"}.get(one["verdict"]) if one["anchors"] else None
    yield "trust", f"{view.word(verdict)} {one['anchors']}" if verdict else view.word("unchecked")


def _holder_lines(view: View, one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Who and as what; codes with their labels."""
    yield "holder", one["holder"]
    kinds = "persons" if one["kind"] == Kind.PERSON else "structures"
    yield "identifier", f"{one['identifier']} ({view.word(one['identifier'][0], kinds)})"
    for key in ("profession", "future_profession"):
        if one[key]:
            yield key, f"{view.word(one[key], 'professions')} ({one[key]})"
    if one["specialities"]:
        yield "specialities", ", ".join(f"{view.word(code, 'specialities')} ({code})" for code in one["specialities"])
    if one["kind"] == Kind.PERSON and any(one["structure"].values()):
        yield "structure", " ".join(filter(None, (one["structure"]["name"], one["structure"]["id"])))
    yield "card_type", f"{one['card_type']}, {view.word(one['card_type'], 'card_types')}"
    if one["card_number"]:
        yield "card_number", one["card_number"]
    yield "range", view.word(one["range"])


# --- list ----------------------------------------------------------------------------------------------------------


def list_cards(data: DataOption = Path("var"), lang: LangOption = Lang.FR, as_json: JsonOption = False) -> None:
    """List the cards of a data folder."""
    view, folder = View(lang, as_json), data / "cards"
    cards = list(_described(sorted(folder.glob("*/card.json"))))
    if not cards:
        raise typer.BadParameter(f"{folder} holds no card (`volet init` makes test cards)", param_hint="--data")
    if as_json:
        typer.echo(json.dumps(cards, ensure_ascii=False, indent=2))
        return
    columns = [view.word(key) for key in ("card", "holder", "profession", "structure", "valid_until", "remark")]
    show_table(columns, (_row(view, said) for said in cards))


def _described(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """What each `card.json` says, without the password of its key store."""
    for file in files:
        try:
            said = read_description(file)
        except CardError as error:
            raise typer.BadParameter(str(error), param_hint="--data") from error
        yield {key: value for key, value in said.items() if key != "password"} | {"folder": str(file.parent)}


def _row(view: View, said: Mapping[str, Any]) -> tuple[str, ...]:
    roles = said.get("roles") or [{}]
    structure, description = said.get("structure") or {}, said.get("description") or {}
    return (str(said.get("card", "")), str(said.get("name", "")), str(roles[0].get("label", "")),
            str(structure.get("name", "")), str(said.get("valid_until", ""))[:10], str(description.get(view.lang, "")))
