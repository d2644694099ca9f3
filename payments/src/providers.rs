use std::sync::Arc;

use domain::PaymentId;

use crate::{Provider, ProviderError};

/// The providers that are set up.
#[derive(Clone)]
pub struct Providers {
    for_check_outs: Arc<dyn Provider>,
    all: Arc<[Arc<dyn Provider>]>,
}

impl Providers {
    /// `for_check_outs` takes new check-outs; `others` keep what they have.
    pub fn new(for_check_outs: Arc<dyn Provider>, others: Vec<Arc<dyn Provider>>) -> Self {
        let all = [for_check_outs.clone()].into_iter().chain(others).collect();
        Self { for_check_outs, all }
    }

    /// The provider that new check-outs use.
    pub fn for_check_outs(&self) -> &dyn Provider {
        &*self.for_check_outs
    }

    /// The provider of a name; none when it is not set up.
    pub fn named(&self, name: &str) -> Option<&dyn Provider> {
        self.iter().find(|provider| provider.name() == name)
    }

    /// The provider of a payment.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] when no provider that is set up knows ids of this form.
    pub fn of_payment(&self, payment_id: &PaymentId) -> Result<&dyn Provider, ProviderError> {
        self.iter().find(|provider| provider.owns(payment_id)).ok_or_else(|| {
            ProviderError::Refused(format!("{payment_id} is no payment of a provider that is set up"))
        })
    }

    /// Every provider that is set up.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Provider> {
        self.all.iter().map(|provider| &**provider)
    }
}
