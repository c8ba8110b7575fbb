"""Certificates as `gyre certificates` makes them, and such as nobody should be let in with."""

from datetime import timedelta
from pathlib import Path

from gyre.certificates import IDENTITIES, THIS_MACHINE, authority, issue, utc_now
from services.runtime.tls import Tls


class Folders:
    """A CA, a folder for each identity, and those that are to be refused.

    Attributes:
        ca_file: The CA's certificate.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = authority(folder / "ca", utc_now())
        self.ca_file = folder / "ca" / "ca.crt"
        for identity in IDENTITIES:
            issue(folder / "ca", self._ca, identity, THIS_MACHINE, 1, utc_now())

    def of(self, identity: str) -> Path:
        """Return the folder of an identity."""
        return self._folder / "ca" / identity

    def tls(self, identity: str) -> Tls:
        """Return how an identity speaks to others."""
        return Tls(self.of(identity))

    def expired(self, identity: str) -> Path:
        """Return a folder with a certificate of the same CA that has ended."""
        now = utc_now()
        issue(self._folder / "expired", self._ca, identity, (), 1, now - timedelta(days=2))
        return self._folder / "expired" / identity

    def ending(self, identity: str, seconds: int) -> Path:
        """Return a folder with a certificate that ends so soon."""
        began = utc_now() - timedelta(days=1) + timedelta(seconds=seconds)
        issue(self._folder / "ending", self._ca, identity, (), 1, began)
        return self._folder / "ending" / identity

    def of_another_ca(self, identity: str) -> Path:
        """Return a folder with a certificate that another CA has signed, and the CA's certificate that all believe."""
        ca = authority(self._folder / "another", utc_now())
        issue(self._folder / "another", ca, identity, (), 1, utc_now())
        own = self._folder / "another" / identity
        (own / "ca.crt").write_bytes(self.ca_file.read_bytes())
        return own

    def replace(self, identity: str, by: Path) -> None:
        """Put another certificate in an identity's folder, as whoever renews it does."""
        for name in ("tls.key", "tls.crt", "ca.crt"):
            scratch = self.of(identity) / f".{name}"
            scratch.write_bytes((by / name).read_bytes())
            scratch.rename(self.of(identity) / name)

    def with_a_new_ca(self) -> "Folders":
        """Return the same of a CA that nobody knows yet."""
        return Folders(self._folder / "new")
