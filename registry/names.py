"""Names as they are compared: case, accents, hyphens and apostrophes do not tell people apart."""

from __future__ import annotations

import unicodedata

LONGEST = 400  # characters of a folded name: some letters become several

#: Letters that no decomposition takes apart
_LIGATURES = str.maketrans({"Œ": "OE", "Æ": "AE", "Ø": "O", "Ł": "L", "Đ": "D"})


def fold(name: str) -> str:
    """`Jean-Noël d’Œuvre` -> `JEAN NOEL D OEUVRE`; letters of other scripts stay."""
    text = unicodedata.normalize("NFKD", name).upper().translate(_LIGATURES)
    plain = "".join(sign if sign.isalnum() else " " for sign in text if not unicodedata.combining(sign))
    return " ".join(plain.split())[:LONGEST]
