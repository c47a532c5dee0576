"""The matrices of a junction at one wave vector, and the Bloch modes of its leads."""
