# SPDX-License-Identifier: Apache-2.0
"""A service account of the imitated cloud: the file with its key, with which a program outside of the cloud gets
tokens, and the check of what such a program sends.

Source: RFC 7523, and "Using OAuth 2.0 for Server to Server Applications" of Google's documentation.
"""

import base64
import json
import time
import urllib.parse

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Account:
    """token_uri: where its programs ask for tokens."""

    def __init__(self, token_uri: str, project: str = "proj"):
        self.token_uri, self.project = token_uri, project
        self.email = f"tests@{project}.iam.gserviceaccount.com"
        self._key = rsa.generate_private_key(65537, 2048)

    def file(self) -> str:
        """What the cloud gives to download."""
        form = serialization.PrivateFormat.PKCS8
        key = self._key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
        return json.dumps({
            "type": "service_account", "project_id": self.project, "private_key_id": "1", "private_key": key,
            "client_email": self.email, "client_id": "1", "token_uri": self.token_uri,
        })  # fmt: skip

    def accepts(self, body: bytes) -> bool:
        """Whether this is the account's request for a token: a form with a fresh, signed assertion."""
        form = dict(urllib.parse.parse_qsl(body.decode(errors="replace")))
        try:
            signed, _, signature = form["assertion"].rpartition(".")
            self._key.public_key().verify(decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
            header, claims = (json.loads(decoded(part)) for part in signed.split("."))
            return (form["grant_type"], header["alg"], claims["iss"], claims["aud"]) == (GRANT, "RS256", self.email, self.token_uri) \
                and claims["iat"] - 60 <= time.time() <= claims["exp"]  # fmt: skip
        except (KeyError, ValueError, TypeError, AttributeError, InvalidSignature):
            return False
