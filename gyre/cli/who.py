"""Who runs a command, as the record names them."""

from __future__ import annotations

import os
import pwd


def account() -> str:
    """Return the name of the account that runs this command on this machine; its number where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def operator() -> str:
    """Return the same, and whose certificate it shows where GYRE_TLS_DIR has one.

    It is what the command says of itself: who may write at all, Kafka's rights say.
    """
    from services.runtime.callers import named
    from services.runtime.settings import TlsSettings
    from services.runtime.tls import identities, tls_of

    tls = tls_of(TlsSettings())
    return named(account(), identities(tls.current().names) if tls else frozenset())
