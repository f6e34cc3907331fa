"""The IPsec policies of a domain: a `policy.PolicyStore` over LDAP."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from contextlib import suppress

from ipsec_core.errors import DirectoryError, PolicyError
from ipsec_core.live.ldap_connection import (
    ALREADY_EXISTS,
    NO_SUCH_OBJECT,
    DirectoryConnection,
    DirectoryServer,
    Refusal,
    one_line,
)
from ipsec_core.policy.agent import Reading
from ipsec_core.policy.directory import (
    CONDITION,
    DEFAULT_DOMAIN_GPO,
    OWNERS,
    READ,
    assigned_policy,
    assignment_dn,
    container_dn,
    from_entry,
    gpo_dn,
)
from ipsec_core.policy.directory_changes import Step, gpo_containers, plan, plan_assignment
from ipsec_core.policy.objects import Changes, ObjectClass, ObjectName, StoredObject, by_name, guid_text

# What moves with every change of an object: exact in Active Directory and in OpenLDAP, to the second elsewhere.
_STAMPS = ("uSNChanged", "entryCSN", "whenChanged", "modifyTimestamp")
_ASSIGNED = ("objectClass", "ipsecName", "description", OWNERS)


class LdapStore:
    """The policies in CN=IP Security,CN=System of a domain and their assignment to GPOs.

    `gpos` are those that apply to the computer, in order of precedence, the highest last: the last one with a policy
    wins, and it is to the last that `apply` assigns. Every call is a connection of its own, so that a store may wait
    for hours between two, and takes at most about `server.timeout` seconds (twice that if a change has to be undone).
    Errors are DirectoryErrors.
    """

    def __init__(self, server: DirectoryServer, gpos: Sequence[uuid.UUID] = (DEFAULT_DOMAIN_GPO,)) -> None:
        if not gpos:
            raise DirectoryError(f"{server.place}: no GPO; accepted: at least one")
        self.server = server
        self.gpos = tuple(gpos)

    def objects(self) -> tuple[StoredObject, ...]:
        with DirectoryConnection(self.server) as connection:
            return self._objects(connection, container_dn(connection.domain))

    def assigned(self) -> uuid.UUID | None:
        with DirectoryConnection(self.server) as connection:
            return self._assigned(connection, connection.domain)

    def read(self, since: Reading | None = None) -> Reading:
        """Everything; `since` itself, without reading the objects, when nothing has changed after that."""
        with DirectoryConnection(self.server) as connection:
            domain = connection.domain
            # First the stamps: what changes in between is found the next time.
            stamp = self._stamp(connection, domain)
            if since is not None and since.stamp == stamp:
                return since
            container = container_dn(domain)
            return Reading(stamp, self._assigned(connection, domain), self._objects(connection, container), container)

    def apply(self, changes: Changes, now: int = 0) -> None:
        """Carries out all of `changes`, or takes back what was done; the error tells what could not be taken back.

        The directory sets whenChanged, not `now`. A reader sees the steps on the way: none of them leaves a reference
        to an object that does not exist, if `changes` as a whole does not.
        """
        if not changes:
            return
        done: list[Step] = []
        try:
            with DirectoryConnection(self.server) as connection:
                for step in self._steps(connection, changes, connection.domain):
                    done.append(step)
                    self._carry_out(connection, step)
        except DirectoryError as error:
            if isinstance(error, Refusal):
                # What was refused has not happened; without an answer nobody knows.
                del done[-1:]
            left = self._take_back(done)
            if left:
                raise DirectoryError(f"{error}; not taken back: {', '.join(map(str, left))}") from error
            raise

    # --- reading ---

    def _objects(self, connection: DirectoryConnection, container: str) -> tuple[StoredObject, ...]:
        try:
            found = [from_entry(*entry) for entry in connection.search(container, "level", CONDITION, READ)]
        except PolicyError as error:
            raise DirectoryError(f"{self.server.place}: {one_line(error)}") from None
        objects = by_name(found)
        if len(objects) < len(found):
            raise DirectoryError(f"{self.server.place}: {container}: two entries with one name")
        return tuple(objects[name] for name in sorted(objects))

    def _assigned(self, connection: DirectoryConnection, domain: str) -> uuid.UUID | None:
        for gpo in reversed(self.gpos):
            entry = self._entry(connection, assignment_dn(gpo, domain), _ASSIGNED)
            if entry is not None:
                try:
                    return assigned_policy(assignment_dn(gpo, domain), entry)
                except PolicyError as error:
                    raise DirectoryError(f"{self.server.place}: {one_line(error)}") from None
        return None

    def _stamp(self, connection: DirectoryConnection, domain: str) -> str:
        container = container_dn(domain)
        lines = [_stamp_line(*entry) for entry in connection.search(container, "level", CONDITION, _STAMPS)]
        for gpo in self.gpos:
            dn = assignment_dn(gpo, domain)
            entry = self._entry(connection, dn, _STAMPS)
            lines += [_stamp_line(dn, entry)] if entry is not None else []
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    @staticmethod
    def _entry(connection: DirectoryConnection, dn: str, names: Sequence[str]) -> dict[str, list[bytes]] | None:
        try:
            found = connection.search(dn, "base", "(objectClass=*)", names)
        except Refusal as refusal:
            if refusal.code != NO_SUCH_OBJECT:
                raise
            return None
        return found[0][1] if found else None

    # --- writing ---

    def _steps(self, connection: DirectoryConnection, changes: Changes, domain: str) -> list[Step]:
        container = container_dn(domain)
        current = by_name(self._objects(connection, container))
        giving, taking = plan(current, changes, container)
        if changes.assign is not ...:
            giving += self._assign(connection, changes.assign, current | by_name(changes.put), domain, container)
        return giving + taking

    @staticmethod
    def _carry_out(connection: DirectoryConnection, step: Step) -> None:
        if step.after is None:
            connection.delete(step.dn)
        elif step.before is None:
            connection.add(step.dn, step.after)
        else:
            connection.modify(step.dn, step.after)

    def _take_back(self, done: Sequence[Step]) -> list[Step]:
        """Those that could not be, in the order in which they were done."""
        left: list[Step] = []
        waiting = list(done)
        with suppress(DirectoryError):
            if waiting:
                with DirectoryConnection(self.server) as connection:
                    while waiting:
                        step = waiting.pop()
                        try:
                            self._carry_out(connection, step.back)
                        except Refusal as refusal:
                            nothing_there = refusal.code == NO_SUCH_OBJECT and step.before is None
                            never_gone = refusal.code == ALREADY_EXISTS and step.after is None
                            if not nothing_there and not never_gone:
                                left.append(step)
                        except DirectoryError:
                            waiting.append(step)
                            raise
        return waiting + left[::-1]

    def _assign(
        self,
        connection: DirectoryConnection,
        policy: uuid.UUID | None,
        objects: dict[ObjectName, StoredObject],
        domain: str,
        container: str,
    ) -> list[Step]:
        gpo = self.gpos[-1]
        steps = []
        if policy is not None:
            path = gpo_containers(gpo, domain)
            missing = [dn for dn in path if self._entry(connection, dn, ("objectClass",)) is None]
            if len(missing) == len(path) and self._entry(connection, gpo_dn(gpo, domain), ("objectClass",)) is None:
                raise DirectoryError(f"{self.server.place}: no GPO {guid_text(gpo)} in {domain}")
            steps = [Step(dn, None, {"objectClass": [b"container"]}) for dn in missing]
        entry = self._entry(connection, assignment_dn(gpo, domain), _ASSIGNED)
        before = None if entry is None else {name: entry.get(name.casefold(), []) for name in _ASSIGNED[1:]}
        wanted = None if policy is None else objects.get(ObjectName.of(ObjectClass.POLICY, policy), policy)
        return steps + plan_assignment(before, wanted, gpo, domain, container)


def _stamp_line(dn: str, values: dict[str, list[bytes]]) -> str:
    """The first stamp that the server has."""
    return next((f"{dn} {values[name.casefold()]}" for name in _STAMPS if values.get(name.casefold())), dn)
