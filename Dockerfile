# syntax=docker/dockerfile:1
# NVIDIA machines: PyTorch with CUDA and nvcc (the -devel image, for the custom operations).
FROM pytorch/pytorch:2.11.0-cuda13.0-cudnn9-devel

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    HOME=/tmp/home \
    TORCH_EXTENSIONS_DIR=/cache/torch_extensions \
    XDG_CACHE_HOME=/cache

# Torch and torchvision are in the image and are kept as they are.
COPY requirements.txt /tmp/requirements.txt
RUN grep -vE '^(torch|torchvision)==' /tmp/requirements.txt > /tmp/others.txt \
    && python -m pip install --break-system-packages -r /tmp/others.txt \
    && mkdir -p /cache /tmp/home \
    && chmod 1777 /cache /tmp/home

WORKDIR /workspace
USER 1000:1000
CMD ["python", "train_db_stylegan2.py", "--help"]
