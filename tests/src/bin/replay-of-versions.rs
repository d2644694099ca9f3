//! `replay`, which also knows the event of the past that the tests bring.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    replay_tool::main(careforall_tests::upcasts::reader()).await
}
