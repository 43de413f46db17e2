"""The dual-branch StyleGAN2-ADA: networks, losses, augmentation, snapshots and the training loop."""
