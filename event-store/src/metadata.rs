//! Metadata of events.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// What is kept beside an event: the command that appended it, and where that command came from. The
/// fields are the keys in the ledger; what is absent is not written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Who acted. No program writes it yet, for want of accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The reason, where neither a request nor a message led to the command: `expiry`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The command. Each append gives its events an id of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_id: Option<Uuid>,
    /// A hash of the request that made the aggregate, which tells a retry from another request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The provider that the message came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The request, as the log and the answer's header name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The request's trace, as W3C Trace Context writes it. No program writes it yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The message's id in the inbox, unique for its provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_id: Option<String>,
    /// SHA-256 of the message's body in hexadecimal. By it an auditor recognises the message, even
    /// when the inbox no longer has it and the provider shows its own copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_sha256: Option<String>,
    /// Keys of later programs, which pass through unchanged.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

impl Metadata {
    /// As the append of `command_id` writes them, borrowed: nothing is copied, unless they were read
    /// from the ledger and name the command of another append.
    pub(crate) fn of_command(&self, command_id: Uuid) -> CommandMetadata<'_> {
        let rest = match self.command_id {
            None => Cow::Borrowed(self),
            Some(_) => Cow::Owned(Self { command_id: None, ..self.clone() }),
        };
        CommandMetadata { command_id, rest }
    }
}

/// Metadata of the events of one command.
#[derive(Serialize)]
pub(crate) struct CommandMetadata<'a> {
    pub(crate) command_id: Uuid,
    #[serde(flatten)]
    rest: Cow<'a, Metadata>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_KEYS: &str = concat!(
        r#"{"actor":"a","cause":"expiry","command_id":"018f0000-0000-7000-8000-000000000001","#,
        r#""fingerprint":"f","provider":"p","request_id":"r","traceparent":"00-1-2-01","#,
        r#""webhook_id":"w","webhook_sha256":"s"}"#
    );

    fn command_id() -> Uuid {
        "018f0000-0000-7000-8000-000000000001".parse().unwrap()
    }

    fn all_keys() -> Metadata {
        let text = |text: &str| Some(text.to_owned());
        Metadata {
            actor: text("a"),
            cause: text("expiry"),
            command_id: Some(command_id()),
            fingerprint: text("f"),
            provider: text("p"),
            request_id: text("r"),
            traceparent: text("00-1-2-01"),
            webhook_id: text("w"),
            webhook_sha256: text("s"),
            unknown: BTreeMap::new(),
        }
    }

    fn read(json: &str) -> Metadata {
        serde_json::from_str(json).unwrap()
    }

    fn write(metadata: &impl Serialize) -> String {
        serde_json::to_string(metadata).unwrap()
    }

    #[test]
    fn each_key_keeps_its_name() {
        assert_eq!(write(&all_keys()), ALL_KEYS);
        assert_eq!(read(ALL_KEYS), all_keys());
    }

    #[test]
    fn absent_keys_are_neither_written_nor_asked_for() {
        assert_eq!(write(&Metadata::default()), "{}");
        assert_eq!(read("{}"), Metadata::default());
        let request = Metadata { request_id: Some("r".to_owned()), ..Metadata::default() };
        assert_eq!(write(&request), r#"{"request_id":"r"}"#);
        assert_eq!(read(r#"{"request_id":"r"}"#), request);
    }

    #[test]
    fn keys_of_later_programs_pass_through() {
        let json = r#"{"request_id":"r","approvals":[1,{"by":"b"}],"tenant":"t"}"#;
        let metadata = read(json);
        assert_eq!(metadata.unknown.keys().collect::<Vec<_>>(), ["approvals", "tenant"]);
        assert_eq!(write(&metadata), json);
    }

    #[test]
    fn an_append_writes_its_own_command_first() {
        let request = Metadata { command_id: None, ..all_keys() };
        let json = concat!(
            r#"{"command_id":"018f0000-0000-7000-8000-000000000001","actor":"a","cause":"expiry","#,
            r#""fingerprint":"f","provider":"p","request_id":"r","traceparent":"00-1-2-01","#,
            r#""webhook_id":"w","webhook_sha256":"s"}"#
        );
        assert_eq!(write(&request.of_command(command_id())), json);
        assert!(matches!(request.of_command(command_id()).rest, Cow::Borrowed(_)));
        let read_before = Metadata { command_id: Some(Uuid::nil()), ..all_keys() };
        assert_eq!(write(&read_before.of_command(command_id())), json);
    }
}
