"""The error of the names and calculators of potentials."""


class PotentialError(ValueError):
    """A potential that is unknown, cannot be built, or does not describe the elements asked for."""
