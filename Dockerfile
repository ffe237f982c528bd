# syntax=docker/dockerfile:1
# mailferry and the redis-server that it embeds. Mount the config at /etc/mailferry, keep /data.
#   docker build -t mailferry . && docker run -v ./config:/etc/mailferry:ro -v mailferry:/data mailferry

FROM node:24-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund

FROM node:24-bookworm-slim
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends redis-server \
  && rm -rf /var/lib/apt/lists/* \
  && install -d -o node -g node -m 700 /data
WORKDIR /app
COPY --from=packages /app/node_modules ./node_modules
COPY package.json LICENSE ./
COPY config ./config
COPY src ./src
# What Node has compiled is kept for the health checks, which start it each time.
ENV NODE_ENV=production MAILFERRY_DATA_DIR=/data NODE_COMPILE_CACHE=/tmp/mailferry-compiled
USER node
VOLUME /data
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["node", "/app/src/main.ts", "health"]
# Node itself is process 1: the worker hears SIGTERM, and what it starts are children of its own that it waits for.
ENTRYPOINT ["node", "/app/src/main.ts"]
CMD ["run"]
