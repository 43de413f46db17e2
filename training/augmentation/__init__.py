"""Differentiable augmentation of what the discriminators see, for 1 and 3 channels.

Source: Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data"
(arXiv:2006.06676), appendix B, on which all stages here are built.
"""
