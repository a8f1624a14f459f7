# xql_jax for CPUs, with the versions that were tested:
#   docker build --tag xql_jax .
#   docker run --rm --volume "$PWD/results:/app/results" xql_jax xql-train-offline --env_name=pointmaze-umaze-v0
FROM python:3.11-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libegl1 libgl1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir --constraint requirements.txt '.[simulators,video]'
WORKDIR /app
