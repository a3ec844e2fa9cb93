"""Redaction of passwords and tokens in printed and logged text."""

from __future__ import annotations

import os
import re
from urllib.parse import quote, unquote

URL = re.compile(r"(?<=://)\S+")
SECRET_PARAMETER = re.compile(
    r"(?<=[?&;])([^=&;\s]*(?:pass|pwd|token|secret|api_?key|access_?key|auth|cred)[^=&;\s]*|sig|signature)=[^&\s]*",
    re.IGNORECASE,
)
SECRET_NAME = re.compile(r"TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|API_?KEY|ACCESS_KEY", re.IGNORECASE)
SHORTEST = 6


def without_secrets(text: str) -> str:
    """The text with `user:password@` of URLs, secrets in their queries and those of the environment as `***`.

    Passwords may contain unescaped `@`, `/`, `#` or `?`, which database drivers accept. If the end of the password
    is ambiguous, the whole URL is redacted. Secrets of the environment are variables whose name says so (TOKEN,
    PASSWORD, SECRET, …) and passwords in URLs; values shorter than six characters are not redacted, since they
    occur in ordinary words.
    """
    text = URL.sub(lambda found: _redacted(found[0]), text)
    for value in _secrets():
        text = text.replace(value, "***")
    return text


def without_userinfo(uri: str) -> str:
    """A URL that is safe to share: scheme, host and path, without user, password, query and fragment."""
    scheme, _, rest = uri.partition("://")
    address = _redacted(rest).removeprefix("***@")
    return f"{scheme}://{re.split('[?#]', address)[0]}"


def unclear_address(uri: str) -> bool:
    """True for an HTTP URL whose password contains an unescaped `/`, `?` or `#`, which no client parses as meant."""
    rest = uri.partition("://")[2]
    authority = re.split("[/?#]", rest)[0]
    return uri.startswith(("http://", "https://")) and _has_user(rest) and authority.count("@") != rest.count("@")


def _redacted(rest: str) -> str:
    """The part of a URL after `://`, redacted."""
    before, _, after = rest.rpartition("@")
    if not _has_user(rest):
        return _without_parameters(rest)
    if "?" in before:  # a password with ?, or a query with @
        return "***"
    return "***@" + _without_parameters(after)


def _has_user(rest: str) -> bool:
    """Whether an @ ends the userinfo; it may also be part of a path, such as s3://bucket/a@b."""
    before, at, _ = rest.rpartition("@")
    return bool(at) and ("/" not in before or ":" in before.split("/")[0])


def _without_parameters(rest: str) -> str:
    return SECRET_PARAMETER.sub(r"\1=***", rest)


def _secrets() -> list[str]:
    """Values that must not be shown, longest first, raw and percent-encoded."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if SECRET_NAME.search(name):
            found |= {value, quote(value, safe="")}
        elif "://" in value:
            found |= _passwords(value)
    return sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)


def _passwords(uri: str) -> set[str]:
    """The password of a URL and the secrets in its query, raw and decoded."""
    rest = uri.partition("://")[2]
    password = rest.rpartition("@")[0].partition(":")[2] if _has_user(rest) else ""
    values = [found[0].partition("=")[2] for found in SECRET_PARAMETER.finditer(rest)]
    return {form for value in [password, *values] for form in (value, unquote(value))}
