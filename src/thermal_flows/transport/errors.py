"""Errors of the transport room."""


class TransportError(ValueError):
    """A junction or a request that cannot be solved; the message says what to change."""


class JunctionError(TransportError):
    """A junction whose parts do not fit each other, or a file that does not hold one."""


class UnstableLeadError(TransportError):
    """A lead with imaginary frequencies: not a crystal at rest."""
