# SpecBranch on CPUs, from a clone (not built anywhere yet):
#   docker build -f docker/cpu.Dockerfile -t specbranch:cpu .
#   docker run --rm -it -v specbranch-cache:/root/.cache specbranch:cpu chat
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make g++ python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /specbranch
COPY . .
RUN make build smollm2 SPECBRANCH_CUDA=0
ENV PATH="/specbranch/.venv/bin:$PATH"
ENTRYPOINT ["specbranch"]
CMD ["demo"]
