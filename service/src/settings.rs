//! Settings, by flag or by environment variable.

use std::ffi::OsStr;

use clap::builder::{NonEmptyStringValueParser, ValueParser};
use clap::{Arg, Command, Parser};

/// Parses the command line. An empty environment variable counts as unset; an empty flag is refused.
pub fn parse<C: Parser>() -> C {
    let matches = without_blanks(C::command()).get_matches();
    C::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Compose files and shell scripts set a variable to nothing where nobody has chosen a value.
fn without_blanks(command: Command) -> Command {
    let is_blank = |name: &OsStr| {
        std::env::var_os(name).is_some_and(|value| value.to_str().is_some_and(|text| text.trim().is_empty()))
    };
    let without_blank = |arg: Arg| {
        let arg = if arg.get_env().is_some_and(is_blank) { arg.env(None::<&str>) } else { arg };
        if is_plain_text(&arg) { arg.value_parser(NonEmptyStringValueParser::new()) } else { arg }
    };
    command.mut_args(without_blank).mut_subcommands(without_blanks)
}

fn is_plain_text(arg: &Arg) -> bool {
    arg.get_action().takes_values()
        && arg.get_value_parser().type_id() == ValueParser::string().type_id()
        && arg.get_possible_values().is_empty()
}
