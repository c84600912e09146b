# Over what has Chromium already.
FROM debian:trixie-slim
COPY --chmod=755 files/browser /usr/local/bin/browser
