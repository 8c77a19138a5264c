# docker build -t nuclei-benchmark .                                  for the processor
# docker build --build-arg DEVICE=cuda -t nuclei-benchmark:cuda .     for GPUs of NVIDIA, with their container toolkit
FROM python:3.11.14-slim-bookworm

# a C compiler for the operator's kernel on the processor; torch brings the one for GPUs
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /source
COPY pyproject.toml setup.py MANIFEST.in constraints.txt README.md LICENSE ./
COPY benchmark benchmark
COPY experiments experiments
COPY docs/reference docs/reference

ARG DEVICE=cpu
RUN case "$DEVICE" in \
        cpu) set -- --extra-index-url https://download.pytorch.org/whl/cpu ;; \
        cuda) set -- ;; \
        *) echo "DEVICE is '$DEVICE'; expected cpu or cuda" >&2; exit 2 ;; \
    esac \
    && pip install --no-cache-dir "$@" -c constraints.txt . \
    && rm -rf build ./*.egg-info

# whoever runs it mounts a folder here; caches of kernels and fonts go where any user may write
ENV NUCLEI_BENCHMARK_HOME=/study HOME=/tmp
WORKDIR /study
ENTRYPOINT ["benchmark"]
CMD ["doctor"]
