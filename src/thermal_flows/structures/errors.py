"""The error of this room."""


class StructureError(ValueError):
    """A crystal, a plane or a pair of crystals that cannot be built as asked.

    The message names the numbers that decided and what to change.
    """
