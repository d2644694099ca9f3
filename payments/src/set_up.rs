//! Setting providers up: the program that they are built for, and the errors.

use std::path::Path;

use reqwest::Url;

/// The program that a provider is built for.
#[derive(Clone, Copy, Debug, Default)]
pub struct BuildContext<'a> {
    /// The address of `careforall up`, which serves the sandbox provider too.
    pub local_url: Option<&'a Url>,
    /// The folder in which `careforall up` keeps the secrets that it made.
    pub data_dir: Option<&'a Path>,
    /// Whether the program takes webhooks. Without its secret every message of a provider would be
    /// refused, and its money not recorded.
    pub takes_webhooks: bool,
}

impl BuildContext<'_> {
    /// A webhook secret, which only a program that takes webhooks needs.
    ///
    /// # Errors
    /// [`SetUpError::NotSet`].
    pub fn webhook_secret<T: Clone>(
        &self,
        secret: &Option<T>,
        variable: &'static str,
    ) -> Result<Option<T>, SetUpError> {
        match secret {
            None if self.takes_webhooks => Err(SetUpError::NotSet(variable)),
            secret => Ok(secret.clone()),
        }
    }
}

/// Why providers cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// A variable is missing.
    #[error("{0} is not set, and this program cannot do without it")]
    NotSet(&'static str),
    /// The key of the provider that takes new check-outs is missing.
    #[error("{0} is not set, and new check-outs go there")]
    CheckOuts(&'static str),
    /// No provider has the name.
    #[error("there is no payment provider named {0:?}")]
    Unknown(String),
    /// The adapter and its row in the registry disagree.
    #[error("the provider {registered:?} calls itself {own:?}")]
    OtherName {
        /// The name in the registry.
        registered: &'static str,
        /// The name that the adapter gives itself.
        own: &'static str,
    },
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made: {0}")]
    Http(#[from] reqwest::Error),
}

/// Parses the address of a provider's API.
pub(crate) fn parse_url(text: &str) -> Result<Url, String> {
    text.parse().map_err(|_| "must look like https://host or http://host:8080".to_owned())
}
