# docs/container.md says how to build and run it, and what of this was tried.
FROM debian:trixie-slim AS system
# hadolint ignore=DL3008 # Debian's stable release fixes the versions
RUN apt-get update \
  && apt-get install --yes --no-install-recommends ca-certificates git make openssh-client python3 python3-venv \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --create-home --uid 1000 --shell /bin/bash motionbench \
  && install --directory --owner=1000 --group=1000 /home/motionbench/repository
USER 1000
WORKDIR /home/motionbench/repository

FROM system
# Without the code, so that a change of it does not install the packages again. Make asks for a repository.
COPY --chown=1000 Makefile requirements.lock ./
RUN mkdir .git && make .venv/installed
COPY --chown=1000 . .
# The lock's date is now that of the clone, which may be later.
RUN touch .venv/installed
CMD ["make", "repro"]
