FROM debian:bookworm-slim
COPY --chmod=755 files/httpbin /usr/local/bin/httpbin
