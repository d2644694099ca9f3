# One image for every service: the command chooses which.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package careforall --package replay-tool

FROM debian:bookworm-slim
RUN useradd --system --create-home --home-dir /var/lib/careforall careforall
COPY --from=build /src/target/release/careforall /src/target/release/replay /usr/local/bin/
USER careforall
WORKDIR /var/lib/careforall
ENTRYPOINT ["careforall"]
CMD ["--help"]
