# xql_jax with the versions that were tested, for CPUs:
#   docker build --tag xql_jax .
#   docker run --rm --volume "$PWD/results:/app/results" xql_jax xql-train-offline --env_name=pointmaze-umaze-v0
# For NVIDIA's GPUs. JAX's packages bring CUDA; the host needs a driver for CUDA 13 and the NVIDIA container toolkit:
#   docker build --tag xql_jax:cuda --build-arg EXTRAS=cuda,simulators,video .
#   docker run --rm --gpus all --volume "$PWD/results:/app/results" xql_jax:cuda xql-train-offline --env_name=hopper-medium-v2
FROM python:3.11-slim
ARG EXTRAS=simulators,video
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libegl1 libgl1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir --constraint requirements.txt ".[${EXTRAS}]"
WORKDIR /app
