"""The one family of exceptions of the package.

A peer's fault is an event or a counter, the caller's fault an exception. The text of each is one line that names the
place, what is wrong there and what is accepted; the command line prints it and exits with status 2.
"""


class IpsecError(Exception):
    """Base of all errors that a caller can cause."""


class DriverError(IpsecError):
    """The IPsec driver refused a control call (bad SA, table full, value out of range)."""


class PolicyError(IpsecError):
    """An IPsec policy is malformed or contradicts itself."""


class DirectoryError(IpsecError):
    """A directory (LDAP) does not answer, refuses, or answers with something that it should not."""


class NegotiationError(IpsecError):
    """ISAKMP/Oakley was asked for something that it cannot do."""


class RegistryError(IpsecError):
    """A registry key or value is unknown, of the wrong type or out of range."""


class StateError(IpsecError):
    """A computer's state directory is missing, damaged or of another version."""


class ScenarioError(IpsecError):
    """A scenario file is malformed; the text names file, key and accepted values."""


class TrafficError(IpsecError):
    """A capture cannot be read or has nothing to replay."""


class AgentError(IpsecError):
    """The machine lacks what the live agent needs: a permission, a port, an address, a device."""


class SecurityWarning(UserWarning):
    """Something works as it was asked for, but gives less protection than people expect."""
