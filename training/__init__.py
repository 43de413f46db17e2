"""The dual-branch StyleGAN2-ADA: networks, losses, augmentation, snapshots, training loop."""
