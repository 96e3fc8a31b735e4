# ytmp3: one image for `serve`, `health` and `key`.
#
# The first stage installs hash-pinned wheels into /opt/ytmp3; the second is the base, that folder and the package. It
# runs no command, holds no compiler and no download cache, and needs no shell.
# The base must be glibc (deno and ffmpeg are manylinux builds): no Alpine. Pin it by digest where it matters:
#   docker build --build-arg PYTHON_IMAGE=python:3.13-slim-trixie@sha256:... .
# Runs as 10001:10001 with a read-only root; writes to DATA_DIR (/data) and to a small tmpfs on /tmp only.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
SHELL ["/bin/sh", "-eu", "-c"]
# tini is PID 1 of the image: it passes SIGTERM on, and reaps what a killed tool leaves behind.
# Its version is the base's own, as that of every other Debian package in it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements/runtime.txt ./
# Wheels only: no build step of a dependency runs. pip itself stays outside the environment. The package has a layer of
# its own, so that a new version of it is not a new copy of ffmpeg.
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
# HOME is the tmpfs: the user has no entry in /etc/passwd, and needs none. Modules come from /opt/ytmp3 and /app only,
# never from the working directory.
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
# Ready, not only alive: this is what `depends_on: service_healthy` waits for. Nothing restarts a container for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-m", "ytmp3", "health"]
ENTRYPOINT ["/usr/bin/tini", "--", "python", "-m", "ytmp3"]
CMD ["serve"]
