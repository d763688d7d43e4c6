# SpecBranch on NVIDIA GPUs, from a clone (not built anywhere yet); TORCH_CUDA_ARCH_LIST as for torch, "8.0;9.0" by default:
#   docker build -f docker/cuda.Dockerfile -t specbranch:cuda .
#   docker run --rm -it --gpus all -v specbranch-cache:/root/.cache specbranch:cuda chat --device cuda
FROM nvidia/cuda:12.8.1-devel-ubuntu24.04
ARG TORCH_CUDA_ARCH_LIST="8.0;9.0"
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make g++ python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /specbranch
COPY . .
# There is no GPU while an image is built: what the Makefile would ask one for is said here.
RUN make build smollm2 SPECBRANCH_CUDA=1 CPU_WHEELS= TORCH_CUDA_ARCH_LIST="$TORCH_CUDA_ARCH_LIST"
ENV PATH="/specbranch/.venv/bin:$PATH"
ENTRYPOINT ["specbranch"]
CMD ["demo"]
