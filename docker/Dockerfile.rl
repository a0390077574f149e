# Reinforcement learning by Verl with SGLang rollout:  docker build -f docker/Dockerfile.rl -t gream-rl .
#   docker run --gpus all --ipc=host -v "$PWD/runs:/gream/runs" gream-rl gream rl --workspace runs/mine
FROM python:3.11-slim
# Triton and FlashInfer compile kernels at run time; SGLang binds its processes to memory nodes.
RUN apt-get update && apt-get install -y --no-install-recommends g++ libc6-dev libnuma1 && rm -rf /var/lib/apt/lists/*
WORKDIR /gream
COPY . .
RUN scripts/setup_gpu_env.sh rl /opt/venv && rm -rf /root/.cache
ENV PATH=/opt/venv/bin:$PATH
CMD ["gream", "doctor"]
