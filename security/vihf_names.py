"""Names of the VIHF as the standards write them (SAML 2.0 core, WS-Security 1.0, CI-SIS transport volet)."""

from __future__ import annotations

from security.identity import Authentication

# Namespaces
SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
SOAP12 = "http://www.w3.org/2003/05/soap-envelope"
SOAP11 = "http://schemas.xmlsoap.org/soap/envelope/"
V3 = "urn:hl7-org:v3"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
XS = "http://www.w3.org/2001/XMLSchema"

X509_SUBJECT = "urn:oasis:names:tc:SAML:1.1:nameid-format:X509SubjectName"

# Names of attributes
VERSION = "VIHF_Version"
STRUCTURE = "Identifiant_Structure"
SECTOR = "Secteur_Activite"
AUTHENTICATION = "Authentification_Mode"
AUTHENTICATION_ALIAS = "Authentification_mode"  # both capitalisations stand in official material
SUBJECT_ID = "urn:oasis:names:tc:xspa:1.0:subject:subject-id"
ROLE = "urn:oasis:names:tc:xacml:2.0:subject:role"
RESOURCE_ID = "urn:oasis:names:tc:xacml:2.0:resource:resource-id"
RESOURCE_URN = "Ressource_URN"
PURPOSE = "urn:oasis:names:tc:xspa:1.0:subject:purposeofuse"
REASON = "Mode_Acces_Raison"
CONFIDENTIALITY = "urn:oasis:names:tc:xspa:1.0:resource:patient:hl7:confidentiality-code"
LPS_ID = "LPS_ID"
LPS_NAME = "LPS_Nom"
LPS_VERSION = "LPS_Version"
LPS_HOMOLOGATION = "LPS_ID_HOMOLOGATION_DMP"

# Code systems
PROFESSION = "1.2.250.1.71.1.2.7"  # NOS TRE_G15
FUTURE_PROFESSION = "1.2.250.1.71.1.2.8"  # NOS TRE_G16
SPECIALITY = "1.2.250.1.71.4.2.5"  # NOS TRE_R01
SECTORS = "1.2.250.1.71.4.2.4"
ACCESS_MODES = "1.2.250.1.213.1.1.4.248"  # NOS TRE_R248
ACCESS_MODES_ALIAS = "1.2.250.1.213.1.1.4.336"  # the same list under the OID of an editorial error
SYSTEM_NAMES = {
    PROFESSION: "Profession", FUTURE_PROFESSION: "Future profession", SPECIALITY: "Savoir-faire",
    ACCESS_MODES: "mode acces VIHF 2.0",
}

#: What a secret connection of a minor feeds and sees (NOS JDV_J08); no text at hand says how the VIHF writes it
SECRET = "INVISIBLE_REPRESENTANTS_LEGAUX"  # noqa: S105 a confidentiality code

# Authentication contexts (SAML 2.0 authn-context §3.4)
CONTEXTS = "urn:oasis:names:tc:SAML:2.0:ac:classes:"
SMARTCARD = CONTEXTS + "SmartcardPKI"
TLS_CLIENT = CONTEXTS + "TLSClient"
DECLARATIONS = ("APP_BROWSER_AUTH", "CONF_EXI_PGSSIS")  # AIR only
CONTEXT_OF = {
    Authentication.DIRECTE: SMARTCARD,
    Authentication.INDIRECTE: TLS_CLIENT,
    Authentication.INDIRECTE_RENFORCEE: CONTEXTS + "MobileTwoFactorUnregistered",
}
