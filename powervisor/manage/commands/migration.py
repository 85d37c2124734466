"""Migration: into a file or descriptor, and out of one."""

from __future__ import annotations

from typing import Annotated

from ..channel import open_channel
from ..command import command
from ..errors import QmpError
from ..migration import Capability, MigrationInfo
from ..session import Session
from ..types import struct


@struct
class CapabilityStatus:
    """A capability, and whether it is on."""

    capability: Capability
    state: bool


@struct
class MigrationParameters:
    """How a migration is done."""

    max_bandwidth: Annotated[int | None, "bytes a second, as it was set; not heeded"] = None


@command("query-migrate-capabilities")
def query_migrate_capabilities(session: Session) -> list[CapabilityStatus]:
    """Capabilities of migrations; `events` is that MIGRATION is told."""
    return [CapabilityStatus(capability="events", state="events" in session.manager.migration.capabilities)]


@command("migrate-set-capabilities")
def migrate_set_capabilities(session: Session, *, capabilities: list[CapabilityStatus]) -> None:
    """Switch capabilities on or off."""
    for one in capabilities:
        known = session.manager.migration.capabilities
        known.add(one.capability) if one.state else known.discard(one.capability)


@command("query-migrate-parameters")
def query_migrate_parameters(session: Session) -> MigrationParameters:
    """Parameters of migrations."""
    return MigrationParameters(max_bandwidth=session.manager.migration.max_bandwidth)


@command("migrate-set-parameters")
def migrate_set_parameters(
    session: Session,
    *,
    max_bandwidth: Annotated[int | None, "bytes a second; taken and not heeded: the guest stands still anyway"] = None,
) -> None:
    """Set parameters."""
    if max_bandwidth is not None:
        if max_bandwidth < 0:
            raise QmpError("migrate-set-parameters: max-bandwidth is 0 or more")
        session.manager.migration.max_bandwidth = max_bandwidth


@command("migrate")
def migrate(
    session: Session,
    *,
    uri: Annotated[str, "fd:NAME (see getfd) or file:PATH"],
    detach: Annotated[bool, "always so: the answer comes at once"] = False,
    resume: Annotated[bool, "only false: a migration that broke begins anew"] = False,
) -> None:
    """Stop the machine and write all of it there: a stream for migrate-incoming of a machine made alike. Disks are not
    in it. Afterwards it stands still (postmigrate); when that fails or is cancelled it goes on. query-migrate and
    MIGRATION tell how far it is."""
    if resume:
        raise QmpError("migrate: a migration that broke cannot go on; leave resume out")
    migration = session.manager.migration
    migration.check_out()
    migration.send(open_channel(session, uri, writing=True))


@command("migrate-incoming")
def migrate_incoming(session: Session, *, uri: Annotated[str, "fd:NAME, fd:NUMBER of ours, or file:PATH"]) -> None:
    """Read what migrate wrote, on a machine that waits for it (-incoming defer). It runs then, unless it was started
    with -S or stop came before. A stream that is damaged, or another machine's, is refused, and the machine waits for
    another one."""
    migration = session.manager.migration
    migration.check_in()
    migration.receive(open_channel(session, uri, writing=False))


@command("migrate_cancel")
def migrate_cancel(session: Session) -> None:
    """Give up a migration that is under way, if there is one."""
    session.manager.migration.cancel()


@command("query-migrate")
def query_migrate(session: Session) -> MigrationInfo:
    """How far the last migration is."""
    return session.manager.migration.info()
