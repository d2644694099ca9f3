//! A small HTTP/1.1 client: it shares the machine with what it measures, so it does little.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection that is kept open.
pub(crate) struct Client {
    stream: TcpStream,
    /// Bytes read and not yet used.
    buffer: Vec<u8>,
    /// How much of it the last answer took.
    used: usize,
}

/// An answer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Client {
    /// Connects to a service on this machine.
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("the service cannot be reached")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096), used: 0 })
    }

    /// Sends a request with a JSON body and reads the answer. `headers` are whole lines.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> anyhow::Result<Answer<'_>> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.context("the request cannot be sent")?;
        self.read_answer().await
    }

    /// Like [`Self::send`], for an answer that must have `status`.
    pub(crate) async fn expect(
        &mut self,
        status: u16,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> anyhow::Result<&[u8]> {
        let answer = self.send(method, path, headers, body).await?;
        ensure!(
            answer.status == status,
            "{method} {path} was answered {} instead of {status}: {}",
            answer.status,
            String::from_utf8_lossy(answer.body)
        );
        Ok(answer.body)
    }

    async fn read_answer(&mut self) -> anyhow::Result<Answer<'_>> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let head_end = loop {
            match self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.read_more().await?,
            }
        };
        let head = std::str::from_utf8(&self.buffer[..head_end]).context("the answer's head is not text")?;
        let (status, length) = parse_head(head)?;
        while self.buffer.len() < head_end + length {
            self.read_more().await?;
        }
        self.used = head_end + length;
        Ok(Answer { status, body: &self.buffer[head_end..self.used] })
    }

    async fn read_more(&mut self) -> anyhow::Result<()> {
        if self.stream.read_buf(&mut self.buffer).await.context("no answer can be read")? == 0 {
            bail!("the service closed the connection");
        }
        Ok(())
    }
}

/// The status and the length of the body, which all services here send.
fn parse_head(head: &str) -> anyhow::Result<(u16, usize)> {
    let status = head.get(9..12).and_then(|status| status.parse().ok()).context("an answer has no status")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok((status, length.context("an answer has no content-length")?))
}
