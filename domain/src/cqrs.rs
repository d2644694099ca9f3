//! The adapter for cqrs-es: our aggregates and events as its `Aggregate` and `DomainEvent`. Nothing else
//! here knows it.

use cqrs_es::event_sink::EventSink;

use crate::{Campaign, CampaignEvent, Pledge, PledgeEvent, Rules, VersionedEvent};

macro_rules! cqrs_es {
    ($aggregate:ty, $event:ty) => {
        impl cqrs_es::Aggregate for $aggregate {
            const TYPE: &'static str = <Self as Rules>::TYPE;
            type Command = <Self as Rules>::Command;
            type Event = $event;
            type Error = <Self as Rules>::Error;
            type Services = ();

            async fn handle(
                &mut self,
                command: Self::Command,
                (): &(),
                sink: &EventSink<Self>,
            ) -> Result<(), Self::Error> {
                for event in self.decide(&command)? {
                    sink.write(event, self).await;
                }
                Ok(())
            }

            fn apply(&mut self, event: $event) {
                self.apply_event(event);
            }
        }

        impl cqrs_es::DomainEvent for $event {
            fn event_type(&self) -> String {
                self.kind().name.to_owned()
            }

            fn event_version(&self) -> String {
                self.kind().version.to_owned()
            }
        }
    };
}

cqrs_es!(Campaign, CampaignEvent);
cqrs_es!(Pledge, PledgeEvent);
