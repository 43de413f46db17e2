# syntax=docker/dockerfile:1
# NVIDIA machines: PyTorch with CUDA and nvcc (the -devel image, for the custom operations).
FROM pytorch/pytorch:2.11.0-cuda13.0-cudnn9-devel

# Whatever is fetched or compiled goes to /cache, which docker_run.sh keeps outside.
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    HOME=/tmp/home \
    LOGNAME=biface \
    BIFACE_CACHE_DIR=/cache \
    TORCH_EXTENSIONS_DIR=/cache/torch_extensions \
    XDG_CACHE_HOME=/cache

# Torch and torchvision are in the image and are kept as they are; the extras read GIMP's files,
# find faces and export networks.
COPY requirements.txt requirements-extras.txt /tmp/
RUN grep -hvE '^(-r |torch==|torchvision==)' /tmp/requirements.txt /tmp/requirements-extras.txt \
        > /tmp/others.txt \
    && python -m pip install --break-system-packages -r /tmp/others.txt \
    && mkdir -p /cache /tmp/home \
    && chmod 1777 /cache /tmp/home

WORKDIR /workspace
USER 1000:1000
CMD ["python", "train_db_stylegan2.py", "--help"]
