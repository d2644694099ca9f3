//! What the tested system is given, and its callers carry.

pub(crate) const ADMIN_TOKEN: &str = "a-token-for-tests";
/// The key of the sandbox provider's API.
pub const SANDBOX_API_KEY: &str = "a-key-of-the-sandbox-for-tests";
pub(crate) const WEBHOOK_SECRET: &str = "whsec_dGVzdHMgc2lnbiB3aXRoIHRoaXMgc2VjcmV0";
