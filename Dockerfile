# The server alone, on an image without a shell, as a user without rights.
#
#   docker build --build-arg REVISION="$(git rev-parse HEAD)" --tag heedwell:0.1.0 .
FROM rust:1.95.0-bookworm AS build
WORKDIR /heedwell

# What comes from elsewhere is compiled first, with stand-ins for our own code, so that it is compiled anew only with Cargo.lock. Cargo
# goes by times, and a file that was there before its stand-in would be taken for compiled: our part is thrown away again.
COPY Cargo.toml Cargo.lock ./
COPY migrations/Cargo.toml migrations/
COPY clients/rust/Cargo.toml clients/rust/
COPY tests/fuzz/Cargo.toml tests/fuzz/
RUN mkdir -p src benches migrations/src clients/rust/src tests/fuzz/src tests/fuzz/examples \
    && for file in src/main.rs build.rs benches/load.rs clients/rust/src/main.rs tests/fuzz/examples/fuzz.rs; do \
         echo 'fn main() {}' >"$file" || exit 1; \
       done \
    && touch src/lib.rs migrations/src/lib.rs tests/fuzz/src/lib.rs \
    && cargo build --release --locked --bin heedwell \
    && cargo clean --release --locked --package heedwell --package heedwell-migrations \
    && rm -r src build.rs migrations/src

COPY build.rs ./
COPY build build
COPY proto proto
COPY migrations/src migrations/src
COPY web/dist web/dist
COPY src src
RUN cargo build --release --locked --bin heedwell && mkdir -m 700 /data

# Its C library and the authorities of the web, and nothing that could be run.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Heedwell" \
      org.opencontainers.image.description="Carries messages between medical practices and their patients" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build --chown=65532:65532 /data /var/lib/heedwell
COPY --from=build /heedwell/target/release/heedwell /usr/local/bin/heedwell
COPY LICENSE /usr/share/doc/heedwell/LICENSE
ENV HEEDWELL_DATA_DIR=/var/lib/heedwell
USER 65532:65532
WORKDIR /var/lib/heedwell
EXPOSE 50051 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/usr/local/bin/heedwell", "health"]
ENTRYPOINT ["/usr/local/bin/heedwell"]
CMD ["serve"]
