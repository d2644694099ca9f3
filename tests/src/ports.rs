//! Ports for the servers and programs of tests.

use std::net::{TcpListener, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// An address that nobody listens on.
pub fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// A port that nobody listens on, and that no connection takes before it is listened on: it is below those
/// that the system gives to connections, and given out once.
pub(crate) fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 12_000..32_000;
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Other test processes give out ports at the same time.
    let start = std::process::id() as u16;
    (0..PORTS.len())
        .map(|_| start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % PORTS.len() as u16 + PORTS.start)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok() && reserve(*port))
        .expect("a free port")
}

/// Keeps the port from other test processes as long as this one lives, also while the server that it is for
/// is away: whoever has the port of the same number for datagrams, has it.
fn reserve(port: u16) -> bool {
    static RESERVED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let socket = UdpSocket::bind(("127.0.0.1", port));
    socket.map(|socket| RESERVED.lock().unwrap().push(socket)).is_ok()
}
