"""The system's Chromium, driven by Playwright: no browser is downloaded, and it phones nobody.

It trusts the certificates of the servers under test and refuses every other.
"""

import base64
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--no-sandbox",  # CI is root, where Chromium starts without its sandbox or not at all
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--font-render-hinting=none",
)


def executable() -> str:
    """Where Chromium is; the test that needs it fails where it is not."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    pytest.fail(
        "the pages' tests drive a browser, and none of "
        f"{', '.join(NAMES)} is on PATH: `apt install chromium` (make does so where it is root)",
        pytrace=False,
    )


@contextmanager
def launched(*certificates: Path) -> Iterator[Browser]:
    """A browser that trusts these servers' certificates alone.

    Playwright keeps an event loop in this thread until the block ends: nothing within may call
    `asyncio.run`.
    """
    path, pins = executable(), ",".join(map(_pin, certificates))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=[*_ARGUMENTS, f"--ignore-certificate-errors-spki-list={pins}"],
        )
        try:
            yield browser
        finally:
            browser.close()


def _pin(certificate: Path) -> str:
    """Base64 of the SHA-256 of the key (RFC 7469, section 2.4), as Chromium's option takes it."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(info).digest()).decode()
