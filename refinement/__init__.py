"""SimGAN: rendered images become more like real ones, and their labels stay valid."""
