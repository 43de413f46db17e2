"""Real images in the latent space of a generator: projection, and what follows from it."""
