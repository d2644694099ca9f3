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

/// The JSON of an answer.
pub(crate) async fn json<T: DeserializeOwned>(response: Response) -> Result<T, ProviderError> {
    response.json().await.map_err(unavailable)
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
fn unavailable(error: reqwest::Error) -> ProviderError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    ProviderError::Unavailable(text)
}
