//! `replay`: see `replay --help`.

use std::process::ExitCode;

use event_store::EventReader;

/// As in `careforall`: folding makes many small things.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    replay_tool::main(EventReader::default()).await
}
