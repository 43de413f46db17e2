"""Networks: configuration, generator, discriminator, snapshots, sampling."""
