# The image of operator and executors: one binary on a base without a shell, as user 65532, on a read-only root.
#
#   docker build -t indexbuild .                                          amd64 or arm64, as the machine is
#   docker buildx build --platform linux/amd64,linux/arm64 -t indexbuild .
#   buildah build -t indexbuild .
#   buildah build --build-context builder=FOLDER -t indexbuild .          with FOLDER/indexbuild, compiled before
#
# Compiler and base are of one Debian: a binary runs where its C library is not newer.
ARG RUST=1.95
ARG CARGO_CHEF=0.1.78

FROM docker.io/library/rust:${RUST}-slim-bookworm AS toolchain
ARG CARGO_CHEF
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ git libclang-dev mold \
 && rm -rf /var/lib/apt/lists/*
RUN cargo install --locked cargo-chef@${CARGO_CHEF}
WORKDIR /src

# What the dependencies are: the same for every change of our own code.
FROM toolchain AS recipe
COPY . .
RUN cargo chef prepare --bin indexbuild --recipe-path /recipe.json

# The dependency layer, RocksDB's C++ among it: some 15 minutes, made anew only when Cargo.lock or a manifest changes.
FROM toolchain AS dependencies
COPY --from=recipe /recipe.json /recipe.json
COPY .cargo .cargo
RUN cargo chef cook --release --locked --bin indexbuild --recipe-path /recipe.json

FROM dependencies AS builder
COPY . .
RUN cargo build --release --locked --bin indexbuild && cp target/release/indexbuild /indexbuild

# glibc, libstdc++ and certificate authorities, and nothing to log in with. No command runs in this stage: it is
# assembled for another architecture without emulation.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="indexbuild" \
      org.opencontainers.image.description="Builds secondary indexes over tables too large for one machine" \
      org.opencontainers.image.source="https://github.com/indexbuild/indexbuild" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=builder --chown=0:0 --chmod=0755 /indexbuild /usr/local/bin/indexbuild
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["/usr/local/bin/indexbuild"]
