//! How providers are spoken to.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{ClientBuilder, RequestBuilder, Response, StatusCode};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;

use crate::ProviderError;

/// A provider has this long to answer one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer that is read. The largest that we ask for, a page of payments with their refunds and
/// disputes, is a fraction of it.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// The way to every HTTP client of the project: with TLS by ring, and with the certificate
/// authorities that browsers trust built in, so that a container without any works too. A client
/// that is built without this has no TLS provider, and panics.
pub fn http_client_builder() -> ClientBuilder {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|_| unreachable!("ring has what the default versions of TLS need"))
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).timeout(TIMEOUT)
}

/// Sends a request. Any answer is an answer; none is [`ProviderError::Unavailable`].
pub(crate) async fn send(request: RequestBuilder) -> Result<Response, ProviderError> {
    request.send().await.map_err(unavailable)
}

/// The JSON of an answer. One that is too long is [`ProviderError::Refused`]: asking again would bring
/// the same.
pub(crate) async fn json<T: DeserializeOwned>(mut response: Response) -> Result<T, ProviderError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            let reason = format!("its answer is longer than {MAX_ANSWER_BYTES} bytes");
            return Err(ProviderError::Refused(reason));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(unavailable)
}

/// Whether a status says "later": then the same request may succeed when it is repeated. A key that
/// is refused is for the operator to mend, and what was asked for waits until then.
pub(crate) fn says_later(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_MANY_REQUESTS
        )
}

/// An error's own text may name the address, but never what was sent.
fn unavailable(error: impl std::error::Error) -> ProviderError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    ProviderError::Unavailable(text)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;

    /// A provider that answers one request with this many digits, and the number that it could send.
    fn provider(digits: usize) -> (String, JoinHandle<usize>) {
        static CHUNK: [u8; 64 * 1024] = [b'1'; 64 * 1024];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let sending = thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            assert!(connection.read(&mut [0; 4096]).unwrap() > 0);
            // Without a length, the answer ends with the connection.
            connection.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\"").unwrap();
            let mut sent = 0;
            while sent < digits {
                let next = CHUNK.len().min(digits - sent);
                if connection.write_all(&CHUNK[..next]).is_err() {
                    return sent;
                }
                sent += next;
            }
            let _ = connection.write_all(b"\"");
            sent
        });
        (url, sending)
    }

    async fn ask(url: &str) -> Result<String, ProviderError> {
        json(send(http_client_builder().build().unwrap().get(url)).await.unwrap()).await
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_a_limit() {
        let quotes = 2;
        let (url, sending) = provider(MAX_ANSWER_BYTES - quotes);
        assert_eq!(ask(&url).await.unwrap().len(), MAX_ANSWER_BYTES - quotes);
        sending.join().unwrap();

        let (url, sending) = provider(MAX_ANSWER_BYTES - quotes + 1);
        let error = ask(&url).await.unwrap_err();
        assert!(
            matches!(&error, ProviderError::Refused(reason) if reason.contains("4194304 bytes")),
            "{error}"
        );
        sending.join().unwrap();
    }

    // The client gives the connection up on another thread than the one that waits here.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_answer_without_end_is_not_read_on() {
        let (url, sending) = provider(usize::MAX);
        assert!(matches!(ask(&url).await, Err(ProviderError::Refused(_))));
        // Socket buffers take some bytes beyond the limit.
        assert!(sending.join().unwrap() < 8 * MAX_ANSWER_BYTES);
    }

    #[tokio::test]
    async fn an_answer_that_is_no_json_may_be_another_one_later() {
        let (url, _) = provider(0);
        let error = json::<u8>(send(http_client_builder().build().unwrap().get(&url)).await.unwrap()).await;
        assert!(matches!(error, Err(ProviderError::Unavailable(_))), "{error:?}");
    }
}
