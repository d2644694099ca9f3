//! Rows on their way into a read table.
//!
//! A row is a struct whose fields are named and typed like the columns. The list of the columns and the
//! arrays of their values are both made from it, so no column can take the place of another. One array per
//! column, which Postgres takes apart again, is far cheaper than one statement per row.

use chrono::{DateTime, NaiveDate, Utc};
use domain::{CampaignId, DonorId, PledgeId, PledgeStatus};
use read_model::{PledgeCounts, Totals};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

/// Rows for one statement.
pub(crate) struct Rows {
    columns: Vec<&'static str>,
    arrays: PgArguments,
    sums: String,
    is_zero: String,
}

impl Rows {
    /// Takes the rows apart, column by column.
    pub(crate) fn of<'r, R: Row + 'r>(
        rows: impl IntoIterator<Item = &'r R, IntoIter: Clone>,
    ) -> Result<Self, sqlx::Error> {
        let (mut columns, mut arrays) = (Vec::new(), PgArguments::default());
        R::columns(&mut columns);
        R::bind(rows.into_iter(), &mut arrays).map_err(sqlx::Error::Encode)?;
        Ok(Self { columns, arrays, sums: String::new(), is_zero: String::new() })
    }

    /// Gives a meaning to `{sums}`: each column of `F` in the table `t` grows by that of `source`.
    pub(crate) fn with_sums<F: Row>(mut self, source: &str) -> Self {
        self.sums = each::<F>(", ", |column| format!("{column} = t.{column} + {source}.{column}"));
        self
    }

    /// Gives a meaning to `{is_zero}`: no column of `F` in the table `t` has anything left.
    fn with_zero<F: Row>(mut self) -> Self {
        self.is_zero = each::<F>(" and ", |column| format!("t.{column} = 0"));
        self
    }

    /// Executes a statement in which `{columns}` stands for the names of the columns, and `{rows}` for the
    /// rows, under the name `r`.
    pub(crate) async fn execute(self, connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
        let sql = self.statement(sql);
        sqlx::query_with(&sql, self.arrays).execute(connection).await?;
        Ok(())
    }

    /// The same for a statement that returns rows.
    pub(crate) async fn fetch<T>(
        self,
        connection: &mut PgConnection,
        sql: &str,
    ) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let sql = self.statement(sql);
        sqlx::query_as_with(&sql, self.arrays).fetch_all(connection).await
    }

    fn statement(&self, sql: &str) -> String {
        let columns = self.columns.join(", ");
        let arrays: Vec<String> = (1..=self.columns.len()).map(|number| format!("${number}")).collect();
        let rows = format!("unnest({}) as r ({columns})", arrays.join(", "));
        let sql = sql.replace("{columns}", &columns).replace("{rows}", &rows);
        sql.replace("{sums}", &self.sums).replace("{is_zero}", &self.is_zero)
    }
}

/// Adds rows to those that are there by `insert`, which calls the table `t` and adds the columns of `F` as
/// `{sums}`. Rows of which nothing is left then go by `delete`, where such a row is `{is_zero}`: so the table
/// is the same whatever was added first. It is executed only if there is one.
pub(crate) async fn add_up<F: Row, R: Row>(
    connection: &mut PgConnection,
    rows: &[R],
    insert: &str,
    delete: &str,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let insert = format!(
        "with added as ({insert} returning {{is_zero}} as is_empty) select bool_or(is_empty) from added"
    );
    let adding = Rows::of(rows)?.with_sums::<F>("excluded").with_zero::<F>();
    let found: Vec<(bool,)> = adding.fetch(connection, &insert).await?;
    if found == [(true,)] {
        Rows::of(rows)?.with_zero::<F>().execute(connection, delete).await?;
    }
    Ok(())
}

/// Says something of each column of `F`.
fn each<F: Row>(separator: &str, say: impl Fn(&str) -> String) -> String {
    let mut columns = Vec::new();
    F::columns(&mut columns);
    columns.into_iter().map(say).collect::<Vec<_>>().join(separator)
}

/// A struct that [`row!`] has declared, or a pair of such.
pub(crate) trait Row {
    /// Adds the names of its columns.
    fn columns(names: &mut Vec<&'static str>);

    /// Adds an array for each column.
    fn bind<'r>(
        rows: impl Iterator<Item = &'r Self> + Clone,
        arrays: &mut PgArguments,
    ) -> Result<(), BoxDynError>
    where
        Self: 'r;
}

/// A field of a row: a value of one column, or a row within the row.
pub(crate) trait Field {
    /// As [`Row::columns`]; a value has the name of the field.
    fn columns(field: &'static str, names: &mut Vec<&'static str>);

    /// As [`Row::bind`].
    fn bind<'r>(
        fields: impl Iterator<Item = &'r Self> + Clone,
        arrays: &mut PgArguments,
    ) -> Result<(), BoxDynError>
    where
        Self: 'r;
}

impl<R: Row> Field for R {
    fn columns(_: &'static str, names: &mut Vec<&'static str>) {
        R::columns(names);
    }

    fn bind<'r>(
        fields: impl Iterator<Item = &'r Self> + Clone,
        arrays: &mut PgArguments,
    ) -> Result<(), BoxDynError>
    where
        Self: 'r,
    {
        R::bind(fields, arrays)
    }
}

/// A key, and what belongs to it.
impl<K: Row, F: Row> Row for (K, F) {
    fn columns(names: &mut Vec<&'static str>) {
        K::columns(names);
        F::columns(names);
    }

    fn bind<'r>(
        rows: impl Iterator<Item = &'r Self> + Clone,
        arrays: &mut PgArguments,
    ) -> Result<(), BoxDynError>
    where
        Self: 'r,
    {
        K::bind(rows.clone().map(|(key, _)| key), arrays)?;
        F::bind(rows.map(|(_, figures)| figures), arrays)
    }
}

/// Declares the struct of a row, or says of a struct elsewhere that it is one: `row!(for S { field: Type })`.
macro_rules! row {
    ($(#[$doc:meta])* struct $row:ident $(<$life:lifetime>)? {
        $($(#[$about:meta])* $field:ident: $type:ty,)+
    }) => {
        $(#[$doc])*
        struct $row $(<$life>)? { $($(#[$about])* $field: $type,)+ }
        $crate::rows::row!(for $row $(<$life>)? { $($field: $type,)+ });
    };
    (for $row:ident $(<$life:lifetime>)? { $($field:ident: $type:ty,)+ }) => {
        impl $(<$life>)? $crate::rows::Row for $row $(<$life>)? {
            fn columns(names: &mut Vec<&'static str>) {
                $(<$type as $crate::rows::Field>::columns(stringify!($field), names);)+
            }

            fn bind<'r>(
                rows: impl Iterator<Item = &'r Self> + Clone,
                arrays: &mut sqlx::postgres::PgArguments,
            ) -> Result<(), sqlx::error::BoxDynError>
            where
                Self: 'r,
            {
                // A struct from elsewhere may have no other fields.
                let _ = |row: &Self| { let Self { $($field: _,)+ } = row; };
                $(<$type as $crate::rows::Field>::bind(rows.clone().map(|row| &row.$field), arrays)?;)+
                Ok(())
            }
        }
    };
}
pub(crate) use row;

/// Values of one column, and how they are sent.
macro_rules! values {
    ($($type:ty as |$value:ident| $sent:expr;)+) => { $(
        $crate::rows::values!(@one $type, |$value| $sent);
        $crate::rows::values!(@one Option<$type>, |$value| $value.as_ref().map(|$value| $sent));
    )+ };
    (@one $type:ty, |$value:ident| $sent:expr) => {
        impl $crate::rows::Field for $type {
            fn columns(field: &'static str, names: &mut Vec<&'static str>) {
                names.push(field);
            }

            fn bind<'r>(
                fields: impl Iterator<Item = &'r Self> + Clone,
                arrays: &mut sqlx::postgres::PgArguments,
            ) -> Result<(), sqlx::error::BoxDynError>
            where
                Self: 'r,
            {
                sqlx::Arguments::add(arrays, fields.map(|$value| $sent).collect::<Vec<_>>())
            }
        }
    };
}
pub(crate) use values;

values! {
    bool as |value| *value;
    i16 as |value| *value;
    i64 as |value| *value;
    Uuid as |value| *value;
    NaiveDate as |value| *value;
    DateTime<Utc> as |value| *value;
    String as |value| value.as_str();
    &str as |value| *value;
    CampaignId as |id| id.0;
    DonorId as |id| id.0;
    PledgeId as |id| id.0;
    PledgeStatus as |status| status.as_str();
}

row!(for PledgeCounts {
    pending: i64,
    authorized: i64,
    captured: i64,
    completed: i64,
    failed: i64,
    expired: i64,
    cancelled: i64,
});

row!(for Totals {
    campaign_id: Uuid,
    published: bool,
    currency: String,
    goal_minor: i64,
    raised_minor: i64,
    refunded_minor: i64,
    reversed_minor: i64,
    charged_back_minor: i64,
    loss_minor: i64,
    in_dispute_minor: i64,
    unapplied_minor: i64,
    donors: i64,
    pledges: PledgeCounts,
    position: i64,
    as_of: DateTime<Utc>,
});

#[cfg(test)]
mod tests {
    use sqlx::Arguments;

    use super::*;

    row! {
        #[derive(Clone, Copy)]
        struct Key {
            campaign_id: Uuid,
        }
    }

    row! {
        #[derive(Clone, Copy)]
        struct Figures {
            created: i64,
            pledges: PledgeCounts,
        }
    }

    #[test]
    fn statements_name_every_column_once_and_in_one_order() {
        let rows =
            [(Key { campaign_id: Uuid::nil() }, Figures { created: 1, pledges: PledgeCounts::default() })];
        let rows = Rows::of(&rows).unwrap().with_sums::<Figures>("excluded").with_zero::<Figures>();
        assert_eq!(rows.arrays.len(), 9);
        let names =
            "campaign_id, created, pending, authorized, captured, completed, failed, expired, cancelled";
        let arrays = "$1, $2, $3, $4, $5, $6, $7, $8, $9";
        assert_eq!(rows.statement("({columns})"), format!("({names})"));
        assert_eq!(rows.statement("{rows}"), format!("unnest({arrays}) as r ({names})"));
        let sums = rows.statement("{sums}");
        assert!(sums.starts_with("created = t.created + excluded.created, pending = t.pending +"), "{sums}");
        assert!(!sums.contains("campaign_id"), "{sums}");
        let is_zero = rows.statement("{is_zero}");
        assert!(is_zero.starts_with("t.created = 0 and t.pending = 0 and t.authorized = 0"), "{is_zero}");
    }
}
