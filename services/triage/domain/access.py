"""Who may see what: the one rule that the console and the gRPC service go by."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from schemas.events import Sensitivity
from schemas.labels import Kind
from services.triage.domain.queue import Shelf


class Role(StrEnum):
    """What somebody is there for."""

    EXPERT = "expert"
    LEAD = "lead"
    ADMIN = "admin"


@dataclass(frozen=True)
class Person:
    """Somebody who has proven who they are.

    Attributes:
        name: Of the account, and in labels.
        role: Of the account.
        clearance: The highest sensitivity that they may see.
        tenants: Whose items they may see; none: every tenant's.
    """

    name: str
    role: Role
    clearance: Sensitivity
    tenants: frozenset[str] | None

    def may_see_tenant(self, tenant: str) -> bool:
        """Say whether numbers of a tenant are theirs to see."""
        return self.tenants is None or tenant in self.tenants

    def may_see(self, tenant: str, sensitivity: Sensitivity) -> bool:
        """Say whether an item is theirs to see."""
        return self.may_see_tenant(tenant) and sensitivity.level <= self.clearance.level

    @property
    def decides(self) -> bool:
        """Whether what experts do not agree on is theirs to decide."""
        return self.role in (Role.LEAD, Role.ADMIN)

    def may_judge(self, shelf: Shelf) -> bool:
        """Say whether what lies on a shelf is for them to judge."""
        return self.may_see(shelf.tenant, shelf.sensitivity) and (shelf.kind is not Kind.ADJUDICATION or self.decides)

    @property
    def may_see_overview(self) -> bool:
        """Whether the numbers of all tenants together are theirs to see."""
        return self.tenants is None and self.role in (Role.LEAD, Role.ADMIN)


@dataclass(frozen=True)
class Identified:
    """Whom an identity provider vouches for: its subject, and the e-mail that it has verified; empty: none."""

    subject: str
    email: str


# Whoever is on this machine, where there are no accounts.
LOCAL = Person("local", Role.ADMIN, Sensitivity.RESTRICTED, None)


def is_this_machine(address: str) -> bool:
    """Say whether an address or host name is that of whoever is on this machine."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address in ("localhost", "unix")
