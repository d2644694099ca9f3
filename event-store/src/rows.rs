//! Rows on their way to the database, many in one parameter.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::{Encode, Postgres, Type};

/// Says which type of the database a row that is sent there has, alone and in an array. Postgres takes one
/// array of rows apart in a third of the time that it needs for an array of each column.
#[macro_export]
macro_rules! row_type {
    ($row:ident, $name:literal) => {
        impl sqlx::Type<sqlx::Postgres> for $row<'_> {
            fn type_info() -> sqlx::postgres::PgTypeInfo {
                sqlx::postgres::PgTypeInfo::with_name($name)
            }
        }

        impl sqlx::postgres::PgHasArrayType for $row<'_> {
            fn array_type_info() -> sqlx::postgres::PgTypeInfo {
                sqlx::postgres::PgTypeInfo::array_of($name)
            }
        }
    };
}

/// A text that stands in a row as the type `OID`. Postgres takes no other type there than the one that the
/// row's type names, not even `text` for `varchar`.
pub struct TextAs<T, const OID: u32>(pub T);

/// A text of a length that the row's type limits. The numbers here are the same in every Postgres (its
/// `pg_type.dat`).
pub type VarChar<T> = TextAs<T, 1043>;

/// A text that is JSON already.
pub(crate) type JsonText<T> = TextAs<T, 114>;

impl<T, const OID: u32> Type<Postgres> for TextAs<T, OID> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(OID))
    }
}

impl<T: AsRef<str>, const OID: u32> Encode<'_, Postgres> for TextAs<T, OID> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <&str as Encode<Postgres>>::encode(self.0.as_ref(), buffer)
    }

    fn size_hint(&self) -> usize {
        self.0.as_ref().len()
    }
}
