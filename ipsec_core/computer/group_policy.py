"""Which policy the registry of a computer says: the local one, and what is kept of the domain's.

The policy of the domain is kept in the Cache store, and named by the values of a GPTIPSECPolicy key (KB 257225). A
computer that has such a reference belongs to a domain.
"""

from __future__ import annotations

from dataclasses import replace

from ipsec_core.computer.registry import POLICY_REFERENCE_KEYS, Registry
from ipsec_core.policy.agent import Reading
from ipsec_core.policy.model import Policy
from ipsec_core.policy.objects import Changes, ObjectClass, ObjectName, PolicyStore, StoredObject, by_name
from ipsec_core.policy.registry_store import RegistryStore
from ipsec_core.policy.storage import read_policy

_PATH = "DSIPSECPolicyPath"
_FORMS = tuple(key for key in POLICY_REFERENCE_KEYS if "{" not in key)
_WRITTEN = r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Microsoft\Windows\IPsec\GPTIPSECPolicy"


def local_policy(registry: Registry) -> Policy | None:
    """The one that is assigned in the local store; IpsecError when it cannot be read."""
    return _assigned(RegistryStore(registry))


class GroupPolicy:
    """The domain's policy in a registry (a `policy.PolicyCache`)."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    @property
    def assigned(self) -> bool:
        """Whether a reference to a domain's policy says that the computer belongs to a domain."""
        return any(self._registry.exists(key, _PATH) for key in _FORMS)

    def read(self) -> Policy | None:
        return _assigned(RegistryStore(self._registry, "Cache"))

    def keep(self, now: float, reading: Reading) -> None:
        store = RegistryStore(self._registry, "Cache")
        with self._registry.transaction():
            before = {item.name for item in store.objects()}
            put = _belonging(reading)
            store.apply(Changes(put, tuple(before - by_name(put).keys()), reading.assigned), int(now))
            if self._registry.exists(_WRITTEN):
                self._registry.delete(_WRITTEN)
            if reading.assigned is not None:
                name = ObjectName.of(ObjectClass.POLICY, reading.assigned)
                policy = by_name(put)[name]
                place = f"CN={name},{reading.container}" if reading.container else f"CN={name}"
                for value, data in (
                    (_PATH, f"LDAP://{place}"),
                    ("DSIPSECPolicyName", policy.display_name),
                    ("DSIPSECPolicyDescription", policy.description),
                    ("DSIPSECPolicyFlags", 0),
                ):
                    self._registry.set(_WRITTEN, value, data)


def _assigned(store: PolicyStore) -> Policy | None:
    guid = store.assigned()
    return None if guid is None else read_policy(store.objects(), guid)


def _belonging(reading: Reading) -> tuple[StoredObject, ...]:
    """The assigned policy and all that it refers to; what does not is nothing to this computer."""
    if reading.assigned is None:
        return ()
    objects = by_name(reading.objects)
    found: dict[ObjectName, StoredObject] = {}
    waiting = [ObjectName.of(ObjectClass.POLICY, reading.assigned)]
    while waiting:
        name = waiting.pop()
        if name not in found and name in objects:
            found[name] = objects[name]
            waiting += objects[name].references
    return tuple(replace(item, owners=tuple(name for name in item.owners if name in found)) for item in found.values())
