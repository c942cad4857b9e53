# The image of everything that is ours: service and worker, viewer, the shop of the drills, and the program that operates them.
# Dependencies are a layer of their own: an edit of our sources compiles our sources. Layers and no cache mounts, so that an engine without BuildKit
# (Debian's docker.io has no buildx) builds it too.
ARG RUST_IMAGE=rust:1.98-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /src
# The release profile's optimisation at link time needs 2.5 GB of memory for a program and minutes that stand before the first page: not for an
# image that its user builds (docs/adr/0013-link-time-optimisation.md). For one that is built once and runs for long:
# --build-arg LTO=fat --build-arg CODEGEN_UNITS=1
ARG LTO=false
ARG CODEGEN_UNITS=16
ENV CARGO_PROFILE_RELEASE_LTO=${LTO} CARGO_PROFILE_RELEASE_CODEGEN_UNITS=${CODEGEN_UNITS}

# The manifests alone, with empty programs in the place of ours. A line for each crate of the workspace.
COPY Cargo.toml Cargo.lock ./
COPY .cargo/ .cargo/
COPY telemetry/Cargo.toml telemetry/
COPY lens/Cargo.toml lens/
COPY ctl/Cargo.toml ctl/
COPY loopback/Cargo.toml loopback/
COPY shop/Cargo.toml shop/
# Not built here, but named by the manifests; the service's tests as empty files, which stay.
COPY telemetry/benches telemetry/benches/
COPY telemetry/examples telemetry/examples/
COPY telemetry/tests telemetry/tests/
RUN mkdir -p tests/fuzz && touch tests/fuzz/main.rs \
 && for crate in . */Cargo.toml; do \
      crate="${crate%/Cargo.toml}"; mkdir -p "$crate/src" && echo 'fn main() {}' >"$crate/src/main.rs" && : >"$crate/src/lib.rs"; \
    done \
 && cargo build --release --locked --workspace --bins \
 && rm -rf src */src \
 && find target/release -maxdepth 1 -type f -delete

# The release profile keeps symbol names (flame graphs) and drops the rest of the debug information (200 MB of resident memory).
COPY . .
# Newer than the empty programs, whatever time the checkout gave them.
RUN find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --workspace --bins \
 && mkdir /programs \
 && find target/release -maxdepth 1 -type f -perm -100 -exec cp {} /programs/ ';'

FROM ${BASE_IMAGE}
COPY --from=build /programs/ /usr/local/bin/
# The slim base trusts nobody: without these no client that may speak HTTPS can be made, not even for an http:// address.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# For SQLite and the viewer's files, when the image is used without the stack.
RUN mkdir -p /data && chown 10001:10001 /data
WORKDIR /
USER 10001:10001
EXPOSE 18080 18081
CMD ["signalbox", "serve"]
