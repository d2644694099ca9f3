//! The projection that a command is about.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser, ValueParser};
use read_model::Projection;

/// Names a projection; the help lists all of them with their tables.
#[derive(Args)]
pub(crate) struct ProjectionArgument {
    /// The projection.
    #[arg(value_parser = parser())]
    pub(crate) projection: Projection,
}

fn parser() -> ValueParser {
    let names = Projection::ALL.map(|one| PossibleValue::new(one.name()).help(one.tables().join(", ")));
    let named = |name: String| Projection::named(&name).ok_or("there is no such projection");
    PossibleValuesParser::new(names).try_map(named).into()
}
