//! Tables for people, JSON for programs.

use std::io::{self, Write};

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use domain::Currency;
use serde::Serialize;

/// An empty table with a line of headings.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.iter().copied());
    table
}

/// A cell with a number, aligned as numbers are.
pub(crate) fn number(number: i64) -> Cell {
    Cell::new(number).set_alignment(CellAlignment::Right)
}

/// A cell with a text that is aligned as numbers are.
pub(crate) fn right(text: &str) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// A cell with a text.
pub(crate) fn text(text: &str) -> Cell {
    Cell::new(text)
}

/// Prints one JSON document.
///
/// # Errors
/// Nobody reads it.
pub(crate) fn json(document: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, document)?;
    writeln!(out)
}

/// An amount in major units with the decimals of its currency, without the currency's code.
pub(crate) fn money(amount_minor: i64, currency: Option<Currency>) -> String {
    let digits = usize::from(currency.map_or(0, Currency::exponent));
    let sign = if amount_minor < 0 { "-" } else { "" };
    let amount = amount_minor.unsigned_abs();
    let scale = 10_u64.pow(digits as u32);
    match digits {
        0 => format!("{sign}{amount}"),
        _ => format!("{sign}{}.{:0digits$}", amount / scale, amount % scale),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_the_decimals_of_its_currency() {
        let currency = |code: &str| code.parse().ok();
        assert_eq!(money(123_456, currency("EUR")), "1234.56");
        assert_eq!(money(-5, currency("EUR")), "-0.05");
        assert_eq!(money(123_456, currency("JPY")), "123456");
        assert_eq!(money(1_250, currency("KWD")), "1.250");
    }
}
