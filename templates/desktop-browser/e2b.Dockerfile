FROM debian:trixie-slim
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    bash ca-certificates chromium curl fonts-liberation fonts-noto-color-emoji sudo \
  && rm -rf /var/lib/apt/lists/*
COPY --chmod=755 files/browser /usr/local/bin/browser
