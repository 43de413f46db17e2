"""Face recognition: backbones, one embedding path, detection, filters and training."""
