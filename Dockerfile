# The image of everything that is ours: service and worker, viewer, and the program that operates them.
# Needs BuildKit, which Docker has by default since version 23; Podman's build understands the same.
ARG RUST_IMAGE=rust:1.98-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# What cargo downloaded and compiled lies in two caches that outlive the layer, so an edit of our sources compiles our sources. The caches belong to the
# builder, not to this checkout: every source is touched, lest an older checkout is taken for what was compiled last, and programs of an earlier build
# are removed. Those of this one leave the cache by `cp`.
# The release profile keeps symbol names (flame graphs) and drops the rest of the debug information (200 MB of resident memory).
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
    find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
 && mkdir -p target/release && find target/release -maxdepth 1 -type f -delete \
 && cargo build --release --locked --workspace --bins \
 && mkdir /programs \
 && find target/release -maxdepth 1 -type f -perm -100 -exec cp {} /programs/ ';'

FROM ${BASE_IMAGE}
COPY --from=build /programs/ /usr/local/bin/
# For SQLite and the viewer's files, when the image is used without the stack.
RUN mkdir -p /data && chown 10001:10001 /data
WORKDIR /
USER 10001:10001
EXPOSE 18080 18081
CMD ["signalbox", "serve"]
