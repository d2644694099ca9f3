//! A cancelled pledge's authorisation is released at the provider.

use std::sync::Arc;

use async_trait::async_trait;
use domain::{Event, PledgeEvent};
use event_store::RecordedEvent;
use payments::{ProviderError, Providers};

use crate::runner::{ProjectError, Projector};

/// Asks the payment's provider to void. It is asked again after a crash or while it is out of reach; a void
/// that it refuses is for a person, and holds up nothing else.
pub(crate) struct VoidCancelled {
    pub(crate) providers: Providers,
}

#[async_trait]
impl Projector for VoidCancelled {
    const NAME: &'static str = "void_cancelled";

    fn needs(_aggregate_type: &str, event_type: &str) -> bool {
        event_type == "PledgeCancelled"
    }

    async fn react(&mut self, events: &[Arc<RecordedEvent>]) -> Result<(), ProjectError> {
        for recorded in events {
            let Event::Pledge(pledge_id, PledgeEvent::PledgeCancelled { payment_id, .. }) = &recorded.event
            else {
                continue;
            };
            let voided = match self.providers.of_payment(payment_id) {
                Ok(provider) => provider.void(payment_id).await,
                Err(error) => Err(error),
            };
            match voided {
                Ok(()) => {}
                Err(ProviderError::Refused(reason)) => {
                    tracing::error!(%pledge_id, %payment_id, reason, "the provider refuses to void");
                }
                Err(error @ ProviderError::Unavailable(_)) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
