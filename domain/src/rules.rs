//! The shape of an aggregate.

use crate::event_kind::VersionedEvent;

/// An aggregate: a pure state machine, whose default value is the state before anything happened.
///
/// ```
/// use domain::campaign::CampaignDetails;
/// use domain::{Campaign, CampaignCommand, CampaignEvent, Rules};
///
/// let details = CampaignDetails {
///     title: "Wells".parse()?,
///     description: None,
///     goal: domain::Money::new(100_000, "EUR".parse()?)?,
///     ends_at: None,
/// };
/// let events = Campaign::default().decide(&CampaignCommand::Create(details.clone()))?;
/// assert_eq!(events, [CampaignEvent::CampaignCreated(details)]);
/// let draft = events.into_iter().fold(Campaign::default(), Campaign::evolve);
/// assert!(draft.decide(&CampaignCommand::Close).is_err(), "a draft takes no pledges yet");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Rules: Clone + Default + Send + Sync {
    /// The name of this kind of aggregate, as it stands beside its events.
    const TYPE: &'static str;
    /// What is asked of it.
    type Command;
    /// What happens to it.
    type Event: VersionedEvent;
    /// The rule that a command would break.
    type Error: std::error::Error;

    /// The events that carry out `command`; none when it has nothing new to say.
    ///
    /// # Errors
    /// The rule that the command would break.
    fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Self::Error>;

    /// The state after `event`.
    #[must_use]
    fn evolve(self, event: Self::Event) -> Self;

    /// Whether `event` may follow here; the auditor's question.
    fn allows(&self, event: &Self::Event) -> bool;

    /// Moves on to the state after `event`.
    fn apply_event(&mut self, event: Self::Event) {
        *self = std::mem::take(self).evolve(event);
    }
}
