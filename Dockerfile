# ytmp3: one image for `serve`, `health` and `key`.
#
# The first stage installs wheels, pinned by hash, into /opt/ytmp3. The second stage is the base image with that folder
# and the package: no command runs in it, so it holds no compiler and no download cache.
# The base must have glibc, because deno and ffmpeg are manylinux builds; Alpine does not work. To pin it by digest:
#   docker build --build-arg PYTHON_IMAGE=python:3.13-slim-trixie@sha256:... .
# The container runs as 10001:10001, also with a read-only root, and writes only to DATA_DIR (/data) and /tmp.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
SHELL ["/bin/sh", "-eu", "-c"]
# tini is process 1 of the container: it forwards SIGTERM, and reaps orphaned processes. Its version comes from the base
# image, like that of every other Debian package.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements/runtime.txt ./
# Only wheels are installed, so no dependency runs a build script. pip itself is not part of the environment. The
# package is copied in a later layer: a new version of it does not repeat the large layer with ffmpeg and deno.
RUN python3 -m venv --without-pip /opt/ytmp3 \
    && python3 -m pip --python /opt/ytmp3/bin/python install \
        --no-cache-dir --disable-pip-version-check --require-hashes --only-binary=:all: -r runtime.txt \
    && echo /app > "$(/opt/ytmp3/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ytmp3.pth"
COPY ytmp3 /app/ytmp3
RUN /opt/ytmp3/bin/python -m compileall -q /app \
    && mkdir -m 0755 /data

FROM ${PYTHON_IMAGE}
COPY --from=build /usr/bin/tini-static /usr/bin/tini
COPY --from=build /opt/ytmp3 /opt/ytmp3
COPY --from=build --chown=10001:10001 /data /data
COPY --from=build /app /app
# The user has no entry in /etc/passwd, so HOME is set: /tmp, the tmpfs. With PYTHONSAFEPATH, modules are imported from
# /opt/ytmp3 and /app, never from the working directory.
ENV PATH=/opt/ytmp3/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    HOME=/tmp \
    HOST=0.0.0.0 \
    PORT=8080 \
    DATA_DIR=/data \
    LOG_FORMAT=json
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ytmp3" \
      org.opencontainers.image.description="A self-hosted service that turns a YouTube link into a verified MP3." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
WORKDIR /
VOLUME ["/data"]
EXPOSE 8080
STOPSIGNAL SIGTERM
# Asks for readiness, because `depends_on: service_healthy` waits for it. Docker restarts no unhealthy container.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-m", "ytmp3", "health"]
ENTRYPOINT ["/usr/bin/tini", "--", "python", "-m", "ytmp3"]
CMD ["serve"]
