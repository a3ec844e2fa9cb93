"""Keeps passwords and tokens out of whatever is printed or logged."""

from __future__ import annotations

import os
import re

USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
SECRET_NAME = re.compile(r"TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|API_?KEY|ACCESS_KEY", re.IGNORECASE)
SHORTEST = 6


def without_secrets(text: str) -> str:
    """The text with `user:password@` of URLs and the values of secret environment variables as `***`.

    Secret are variables whose name says so (TOKEN, PASSWORD, SECRET, …); values shorter than six
    characters are left, since they stand in ordinary words.
    """
    text = USERINFO.sub("***@", text)
    for name, value in os.environ.items():
        if SECRET_NAME.search(name) and len(value) >= SHORTEST:
            text = text.replace(value, "***")
    return text


def without_userinfo(uri: str) -> str:
    """An address to be opened by others: the URL without `user:password@`."""
    return USERINFO.sub("", uri)
