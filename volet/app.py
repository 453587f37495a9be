"""The web application: addresses to functions, nothing else. One instance a process, assembled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Response, abort, jsonify, request
from werkzeug.exceptions import HTTPException

from journal.database import is_alive
from volet import soap, wsdl
from volet.assembly import Server
from volet.body import pieces_of
from volet.doors import door_of, peer_certificate

#: The DMP's own paths, so that existing software changes the host only; then our short ones.
SERVICE_PATHS = {
    "registry": ("/si-dmp-server/v2/services/registry", "/xds/registry"),
    "repository": ("/si-dmp-server/v2/services/repository", "/xds/repository"),
    "identity": ("/xds/identity",),
    "gateway": ("/xds/gateway",),
    "initiating": ("/xds/initiating",),
    "subscriptions": ("/xds/subscriptions", "/xds/subscriptions/<subscription>"),
}


def create_app(server: Server) -> Flask:
    """The application of one assembled server."""
    app = Flask("volet", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = server.settings.max_request_bytes
    for service, paths in SERVICE_PATHS.items():
        for number, path in enumerate(paths):
            app.add_url_rule(path, f"{service}-{number}", _soap_view(service, server), methods=["POST"])
            app.add_url_rule(path, f"{service}-{number}-wsdl", _wsdl_view(service), methods=["GET"])
    app.add_url_rule("/healthz", "healthz", lambda: ("alive\n", 200, {"Content-Type": "text/plain"}))
    app.add_url_rule("/readyz", "readyz", _ready_view(server))
    if server.settings.is_test:
        app.add_url_rule("/api/journal", "journal", _journal_view(server))
    app.register_error_handler(HTTPException, _plain_error)
    app.after_request(_harden)
    return app


def _soap_view(service: str, server: Server) -> Callable[[], Response]:
    def view(**_: str) -> Response:
        """One SOAP request."""
        pieces = pieces_of(request, server.settings.max_request_bytes)
        asked = soap.Request(request.headers.get("Content-Type", ""), pieces, door_of(request),
                             peer_certificate(request), request.base_url)
        answered = soap.handle(asked, service, server)
        response = Response(soap.body_of(answered), answered.status, content_type=answered.content_type)
        response.headers["Content-Length"] = str(answered.length)
        if not answered.content_type:  # a 202 says nothing more (ITI TF-2 appendix V.5)
            del response.headers["Content-Type"]
        return response

    return view


def _wsdl_view(service: str) -> Callable[[], Response]:
    def view(**_: str) -> Response:
        """`?wsdl` and `?xsd=NAME`; anything else by GET is not served here."""
        document = wsdl.answer(service, request.base_url, request.args)
        if document is None:
            abort(405, description="POST a SOAP 1.2 message here, or GET ?wsdl")
        return Response(document, content_type="text/xml; charset=UTF-8")

    return view


def _ready_view(server: Server) -> Callable[[], tuple[Response, int]]:
    def view() -> tuple[Response, int]:
        """Ready when databases answer, documents can be written and trust anchors are in force."""
        checks = {
            "registry": is_alive(server.services.registry.database),
            "journal": is_alive(server.journal.database),
            "documents": server.repository.store.incoming.is_dir(),
            "trust": server.trust is None or not server.trust.problem,
        }
        return jsonify(ready=all(checks.values()), checks=checks), 200 if all(checks.values()) else 503

    return view


def _journal_view(server: Server) -> Callable[[], Response]:
    def view() -> Response:
        """The newest exchanges after a cursor, oldest first; loopback only."""
        if request.remote_addr not in {"127.0.0.1", "::1"}:
            abort(403)
        limit = min(max(request.args.get("limit", 50, type=int), 1), 1000)
        since = min(max(request.args.get("since", 0, type=int), 0), 2**63 - 1)
        return jsonify(server.journal.recent(limit, since, request.args.get("verdict", ""),
                                             request.args.get("name", "")))

    return view


def _plain_error(error: HTTPException) -> tuple[str, int, dict[str, str]]:
    return f"{error.code} {error.name}: {error.description}\n", error.code or 500, {"Content-Type": "text/plain"}


def _harden(response: Any) -> Any:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cache-Control", "no-store")
    return response
