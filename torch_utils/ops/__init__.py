"""Image operations of StyleGAN2 in plain PyTorch, the specification of any faster form."""
