# The image of everything that is ours: service and worker, viewer, and the program that operates them.
# Dependencies are a layer of their own: an edit of our sources compiles our sources.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /src

# The manifests alone, with empty programs in the place of ours.
COPY Cargo.toml Cargo.lock ./
COPY lens/Cargo.toml lens/
COPY ctl/Cargo.toml ctl/
# Not built here, but named by the manifest.
COPY benches benches/
RUN for crate in . lens ctl; do \
      mkdir -p "$crate/src" && echo 'fn main() {}' >"$crate/src/main.rs" && : >"$crate/src/lib.rs"; \
    done \
 && cargo build --release --locked --workspace \
 && rm -rf src lens/src ctl/src

# The release profile keeps symbol names (flame graphs) and drops the rest of the debug information (200 MB of resident memory).
COPY . .
# Newer than the empty programs, whatever time the checkout gave them.
RUN find src lens ctl -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --workspace --bins

FROM ${BASE_IMAGE}
COPY --from=build /src/target/release/signalbox /src/target/release/lens /src/target/release/signalboxctl /usr/local/bin/
# For SQLite and the viewer's files, when the image is used without the stack.
RUN mkdir -p /data && chown 10001:10001 /data
WORKDIR /
USER 10001:10001
EXPOSE 18080 18081
CMD ["signalbox", "serve"]
