"""Results over frequencies and wave vectors, and the meshes they live on."""
