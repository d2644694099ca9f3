//! The registry: every provider that a program can be set up with, in one table.
//!
//! From a row follow the provider's flags and variables, the values of `CAREFORALL_PAYMENT_PROVIDER`,
//! its webhook address and that address's description, and the labels of its metrics. To add a
//! provider, write its adapter and its settings in a module of their own, flatten the settings into
//! [`ProviderSettings`], and list its descriptor in [`Registry::default`].

use std::sync::Arc;

use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::descriptor::{ProviderDescriptor, ProviderSettings};
use crate::set_up::{BuildContext, SetUpError};
use crate::{Guarded, Provider, Providers, sandbox, stripe};

/// Names that are addresses under `/webhooks/` already.
const RESERVED_NAMES: [&str; 1] = ["inbox"];
const MAX_NAME_CHARS: usize = 40;

/// The providers that a program can be set up with.
#[derive(Clone)]
pub struct Registry(Vec<ProviderDescriptor>);

impl Default for Registry {
    /// The providers of this crate.
    fn default() -> Self {
        let mut registry = Self(Vec::new());
        for descriptor in [sandbox::descriptor(), stripe::descriptor()] {
            registry.register(descriptor).unwrap_or_else(|error| unreachable!("{error}"));
        }
        registry
    }
}

impl Registry {
    /// Adds a provider.
    ///
    /// # Errors
    /// [`RegistryError`]: the name cannot be used.
    pub fn register(&mut self, descriptor: ProviderDescriptor) -> Result<(), RegistryError> {
        let name = descriptor.name;
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(1..=MAX_NAME_CHARS).contains(&name.len()) || !name.chars().all(is_allowed) {
            return Err(RegistryError::Malformed(name));
        }
        if RESERVED_NAMES.contains(&name) {
            return Err(RegistryError::Reserved(name));
        }
        if self.iter().any(|known| known.name == name) {
            return Err(RegistryError::Taken(name));
        }
        self.0.push(descriptor);
        Ok(())
    }

    /// All providers, in the order of registration.
    pub fn iter(&self) -> impl Iterator<Item = &ProviderDescriptor> {
        self.0.iter()
    }

    /// Parses the name of a provider of this crate on the command line.
    pub fn value_parser() -> PossibleValuesParser {
        let value =
            |descriptor: &ProviderDescriptor| PossibleValue::new(descriptor.name).help(descriptor.summary);
        PossibleValuesParser::new(Self::default().iter().map(value))
    }

    /// Every provider whose key is set, each behind a guard.
    ///
    /// # Errors
    /// [`SetUpError`].
    pub fn build_all(
        &self,
        settings: &ProviderSettings,
        context: &BuildContext<'_>,
    ) -> Result<Vec<Arc<dyn Provider>>, SetUpError> {
        let mut providers: Vec<Arc<dyn Provider>> = Vec::new();
        for descriptor in self.iter() {
            let Some(provider) = (descriptor.build)(settings, context)? else { continue };
            if provider.name() != descriptor.name {
                return Err(SetUpError::OtherName { registered: descriptor.name, own: provider.name() });
            }
            providers.push(Arc::new(Guarded::new(provider)));
        }
        Ok(providers)
    }

    /// Every provider whose key is set, of which the one named `for_check_outs` takes new check-outs.
    ///
    /// # Errors
    /// [`SetUpError`].
    pub fn build(
        &self,
        for_check_outs: &str,
        settings: &ProviderSettings,
        context: &BuildContext<'_>,
    ) -> Result<Providers, SetUpError> {
        let chosen = self.iter().find(|descriptor| descriptor.name == for_check_outs);
        let chosen = chosen.ok_or_else(|| SetUpError::Unknown(for_check_outs.to_owned()))?;
        let (mut first, others): (Vec<_>, Vec<_>) = self
            .build_all(settings, context)?
            .into_iter()
            .partition(|provider| provider.name() == chosen.name);
        let first = first.pop().ok_or(SetUpError::CheckOuts(chosen.key_variable))?;
        Ok(Providers::new(first, others))
    }
}

/// Why a provider cannot be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It does not fit into an address.
    #[error("{0:?} is no provider's name: lower-case letters, digits and hyphens, 1 to {MAX_NAME_CHARS}")]
    Malformed(&'static str),
    /// Its webhooks would go to an address that is something else.
    #[error("{0:?} is no provider's name: /webhooks/{0} is another address")]
    Reserved(&'static str),
    /// Two providers with one name.
    #[error("a provider named {0:?} is registered already")]
    Taken(&'static str),
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        providers: ProviderSettings,
    }

    fn settings(flags: &[&str]) -> ProviderSettings {
        Cli::parse_from([&["test"], flags].concat()).providers
    }

    fn named(name: &'static str) -> ProviderDescriptor {
        ProviderDescriptor { name, ..stripe::descriptor() }
    }

    fn refusal(settings: &ProviderSettings, name: &str, context: BuildContext<'_>) -> String {
        Registry::default().build(name, settings, &context).err().unwrap().to_string()
    }

    const SANDBOX: [&str; 2] = ["--sandbox-api-key=key", "--sandbox-url=http://127.0.0.1:1"];

    #[test]
    fn a_name_is_an_address_of_its_own() {
        let mut registry = Registry::default();
        assert_eq!(registry.register(named("inbox")), Err(RegistryError::Reserved("inbox")));
        assert_eq!(registry.register(named("stripe")), Err(RegistryError::Taken("stripe")));
        for name in ["", "Acme", "a/b", "a{b}", "pay pal", "an-name-that-is-longer-than-an-address-should"] {
            assert_eq!(registry.register(named(name)), Err(RegistryError::Malformed(name)));
        }
        assert_eq!(registry.register(named("acme-2")), Ok(()));
        assert_eq!(
            registry.iter().map(|known| known.name).collect::<Vec<_>>(),
            ["sandbox", "stripe", "acme-2"]
        );
    }

    #[test]
    fn what_is_set_is_built_and_the_rest_is_named() {
        let registry = Registry::default();
        let both = settings(&[&SANDBOX[..], &["--stripe-api-key=key"]].concat());
        let context = BuildContext::default();
        let providers = registry.build("stripe", &both, &context).unwrap();
        assert_eq!(providers.for_check_outs().name(), "stripe");
        assert_eq!(
            providers.iter().map(|provider| provider.name()).collect::<Vec<_>>(),
            ["stripe", "sandbox"]
        );

        let one = settings(&SANDBOX);
        let key = refusal(&one, "stripe", context);
        assert_eq!(key, "CAREFORALL_STRIPE_API_KEY is not set, and new check-outs go there");
        assert!(refusal(&one, "paypal", context).contains("no payment provider named \"paypal\""));
        let secret = refusal(&one, "sandbox", BuildContext { takes_webhooks: true, ..context });
        assert!(secret.contains("CAREFORALL_SANDBOX_WEBHOOK_SECRET is not set"), "{secret}");
        let url = refusal(&settings(&["--sandbox-api-key=key"]), "sandbox", context);
        assert!(url.contains("CAREFORALL_SANDBOX_URL is not set"), "{url}");
    }

    #[test]
    fn an_adapter_and_its_row_have_one_name() {
        let mut registry = Registry(vec![]);
        registry.register(named("acme")).unwrap();
        let settings = settings(&["--stripe-api-key=key"]);
        let error = registry.build_all(&settings, &BuildContext::default()).err().unwrap();
        assert_eq!(error.to_string(), "the provider \"acme\" calls itself \"stripe\"");
    }

    #[test]
    fn every_provider_is_used_when_its_variable_is_set() {
        let command = Cli::command();
        for ProviderDescriptor { name, key_variable, .. } in Registry::default().iter() {
            let has_flag = |arg: &clap::Arg| arg.get_env().is_some_and(|env| env == *key_variable);
            assert!(command.get_arguments().any(has_flag), "{name}: no flag has {key_variable}");
        }
    }
}
