# What base has where its image comes from a registry; prepare makes the same from
# Debian's packages.
FROM debian:trixie-slim
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    bash build-essential ca-certificates curl git jq less nano nodejs npm openssh-client \
    procps psmisc python3 python3-dev python3-pip python3-venv python-is-python3 ripgrep rsync sudo \
    tmux tree unzip util-linux wget xz-utils zip \
  && rm -rf /var/lib/apt/lists/*
