//! Rows, as the server sent them: values are decoded when they are asked for.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use postgres_protocol::message::backend::DataRowBody;
use postgres_types::{FromSql, Type, WrongType};

use super::error::Error;
use crate::pg::Column;

impl Column {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type.
    pub fn type_(&self) -> &Type {
        &self.type_
    }
}

/// How a column is named in [`Row::get`]: by position (`usize`) or by name (`&str`). Sealed.
pub trait RowIndex: sealed::Index {}

impl RowIndex for usize {}
impl RowIndex for str {}
impl<T: RowIndex + ?Sized> RowIndex for &T {}

mod sealed {
    pub trait Index {
        /// The position among `count` columns, of which the n-th is called `name(n)`.
        fn position<'n>(&self, count: usize, name: impl Fn(usize) -> &'n str) -> Option<usize>;
    }

    impl Index for usize {
        fn position<'n>(&self, count: usize, _name: impl Fn(usize) -> &'n str) -> Option<usize> {
            (*self < count).then_some(*self)
        }
    }

    impl Index for str {
        /// The exact name first, then one that differs only in ASCII case, as unquoted SQL identifiers do.
        fn position<'n>(&self, count: usize, name: impl Fn(usize) -> &'n str) -> Option<usize> {
            let exact = (0..count).find(|&n| name(n) == self);
            exact.or_else(|| (0..count).find(|&n| name(n).eq_ignore_ascii_case(self)))
        }
    }

    impl<T: Index + ?Sized> Index for &T {
        fn position<'n>(&self, count: usize, name: impl Fn(usize) -> &'n str) -> Option<usize> {
            T::position(self, count, name)
        }
    }
}

/// One row of a query's result. It shares memory with its siblings from the same read, so it is cheap to keep a few
/// and best not to keep one of millions: copy what you need out of it.
#[derive(Clone)]
pub struct Row {
    columns: Arc<[Column]>,
    fields: Fields,
}

impl Row {
    pub(crate) fn new(columns: Arc<[Column]>, row: &DataRowBody) -> Result<Self, Error> {
        let fields = Fields::parse(row.buffer_bytes().clone(), columns.len())?;
        Ok(Row { columns, fields })
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// How many values the row has.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether the row has no values.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The value in a column, by position or name.
    ///
    /// # Panics
    /// If there is no such column or its value does not convert to `T`: see [`Row::try_get`].
    #[track_caller]
    pub fn get<'a, I, T>(&'a self, index: I) -> T
    where
        I: RowIndex + fmt::Display,
        T: FromSql<'a>,
    {
        match self.try_get(&index) {
            Ok(value) => value,
            Err(error) => panic!("cannot read column {index}: {error}"),
        }
    }

    /// The value in a column, by position or name. `Option<T>` takes NULL.
    ///
    /// # Errors
    /// [`Error::Column`] if there is no such column, [`Error::FromSql`] if its value does not convert to `T`.
    pub fn try_get<'a, I, T>(&'a self, index: I) -> Result<T, Error>
    where
        I: RowIndex + fmt::Display,
        T: FromSql<'a>,
    {
        let Some(n) = index.position(self.columns.len(), |n| self.columns[n].name()) else {
            return Err(Error::Column { index: index.to_string(), columns: self.columns.len() });
        };
        let column = &self.columns[n];
        let failed = |source| Error::FromSql { column: n, name: column.name().to_owned(), source };
        if !T::accepts(column.type_()) {
            return Err(failed(Box::new(WrongType::new::<T>(column.type_().clone()))));
        }
        T::from_sql_nullable(column.type_(), self.fields.get(n)).map_err(failed)
    }

    /// The size of the row's values on the wire, in bytes, with a length of four bytes before each.
    pub fn raw_size_bytes(&self) -> usize {
        self.fields.body.len()
    }
}

impl fmt::Debug for Row {
    /// The columns only: values may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("columns", &self.columns).finish_non_exhaustive()
    }
}

/// A row of a simple query: every value is text.
#[derive(Clone)]
pub struct SimpleRow {
    columns: Arc<[Column]>,
    fields: Fields,
}

impl SimpleRow {
    pub(crate) fn new(columns: Arc<[Column]>, row: &DataRowBody) -> Result<Self, Error> {
        let fields = Fields::parse(row.buffer_bytes().clone(), columns.len())?;
        Ok(SimpleRow { columns, fields })
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// How many values the row has.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether the row has no values.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The text in a column, `None` for NULL.
    ///
    /// # Panics
    /// If there is no such column or it is not UTF-8: see [`SimpleRow::try_get`].
    #[track_caller]
    pub fn get<I: RowIndex + fmt::Display>(&self, index: I) -> Option<&str> {
        match self.try_get(&index) {
            Ok(value) => value,
            Err(error) => panic!("cannot read column {index}: {error}"),
        }
    }

    /// The text in a column, `None` for NULL.
    ///
    /// # Errors
    /// [`Error::Column`] if there is no such column, [`Error::FromSql`] if it is not UTF-8.
    pub fn try_get<I: RowIndex + fmt::Display>(&self, index: I) -> Result<Option<&str>, Error> {
        let Some(n) = index.position(self.columns.len(), |n| self.columns[n].name()) else {
            return Err(Error::Column { index: index.to_string(), columns: self.columns.len() });
        };
        let text = self.fields.get(n).map(std::str::from_utf8).transpose();
        text.map_err(|e| Error::FromSql { column: n, name: self.columns[n].name().to_owned(), source: e.into() })
    }
}

impl fmt::Debug for SimpleRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleRow").field("columns", &self.columns).finish_non_exhaustive()
    }
}

const MARKS: usize = 8;

/// A DataRow's fields: for each a 32-bit length (-1 is NULL) and that many bytes.
///
/// Their offsets are not kept in a heap-allocated table but as eight marks, one for every `stride` fields: a row costs
/// no allocation, and finding a field walks over less than an eighth of the row.
#[derive(Clone)]
struct Fields {
    body: Bytes,
    stride: u32,
    marks: [u32; MARKS],
}

impl Fields {
    /// Checks every length once, so that [`Fields::get`] cannot go out of bounds.
    fn parse(body: Bytes, count: usize) -> Result<Self, Error> {
        let stride = count.div_ceil(MARKS).max(1);
        let mut marks = [0; MARKS];
        let mut at = 0;
        for field in 0..count {
            if field % stride == 0 {
                marks[field / stride] = u32::try_from(at).map_err(|_| malformed("a data row longer than 4 GiB"))?;
            }
            at = match field_at(&body, at) {
                Some((_, next)) if next <= body.len() => next,
                _ => return Err(malformed("a data row has fewer fields than its description")),
            };
        }
        if at != body.len() {
            return Err(malformed("a data row has more fields than its description"));
        }
        let stride = u32::try_from(stride).map_err(|_| malformed("a description of more than 65,535 columns"))?;
        Ok(Fields { body, stride, marks })
    }

    /// The n-th field, which must be one of those that were counted.
    fn get(&self, n: usize) -> Option<&[u8]> {
        let stride = self.stride as usize;
        let mut at = self.marks[n / stride] as usize;
        for _ in 0..n % stride {
            at = field_at(&self.body, at)?.1;
        }
        let (null, next) = field_at(&self.body, at)?;
        if null { None } else { self.body.get(at + 4..next) }
    }
}

/// Whether the field that begins at `at` is NULL, and where the next one begins.
fn field_at(body: &[u8], at: usize) -> Option<(bool, usize)> {
    let length = i32::from_be_bytes(body.get(at..at + 4)?.try_into().ok()?);
    match length {
        -1 => Some((true, at + 4)),
        _ => Some((false, (at + 4).checked_add(usize::try_from(length).ok()?)?)),
    }
}

fn malformed(what: &'static str) -> Error {
    Error::protocol(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(fields: &[Option<&[u8]>]) -> Bytes {
        let mut body = Vec::new();
        for field in fields {
            let length = field.map_or(-1, |f| f.len() as i32);
            body.extend_from_slice(&length.to_be_bytes());
            body.extend_from_slice(field.unwrap_or_default());
        }
        body.into()
    }

    fn row(names: &[&str], fields: &[Option<&[u8]>]) -> Row {
        let column = |name: &&str| Column {
            name: (*name).into(),
            type_: Type::TEXT,
            type_modifier: -1,
            table_oid: 0,
            column_id: 0,
            binary: true,
        };
        Row { columns: names.iter().map(column).collect(), fields: Fields::parse(body(fields), names.len()).unwrap() }
    }

    #[test]
    fn values_by_position_and_name() {
        let row = row(&["a", "B", "b"], &[Some(b"x"), None, Some(b"z")]);
        assert_eq!(row.get::<_, &str>(0), "x");
        assert_eq!(row.get::<_, &str>("a"), "x");
        assert_eq!(row.get::<_, &str>("A"), "x", "unquoted identifiers fold case");
        assert_eq!(row.get::<_, &str>("b"), "z", "the exact name wins over one of another case");
        assert_eq!(row.get::<_, Option<&str>>("B"), None);
        assert_eq!(row.len(), 3);
        assert_eq!(row.raw_size_bytes(), 4 + 1 + 4 + 4 + 1);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_names_the_column() {
        let row = row(&["a", "b"], &[Some(b"s3cret"), None]);
        assert!(matches!(row.try_get::<_, &str>(2), Err(Error::Column { columns: 2, .. })));
        assert!(matches!(row.try_get::<_, &str>("nope"), Err(Error::Column { .. })));
        assert!(matches!(row.try_get::<_, i32>("a"), Err(Error::FromSql { column: 0, .. })));
        let null = row.try_get::<_, &str>("b").unwrap_err();
        assert!(null.to_string().contains("\"b\""), "{null}");
        assert!(!format!("{row:?}").contains("s3cret"), "values are not shown");
    }

    #[test]
    fn wide_rows_find_every_field() {
        let widths: &[usize] = if cfg!(miri) { &[0, 1, 7, 8, 9, 65] } else { &[0, 1, 7, 8, 9, 63, 64, 65, 200, 1664] };
        for &width in widths {
            let texts: Vec<String> = (0..width).map(|n| "v".repeat(n % 5) + &n.to_string()).collect();
            let fields: Vec<Option<&[u8]>> =
                texts.iter().enumerate().map(|(n, t)| (n % 7 != 3).then_some(t.as_bytes())).collect();
            let row = Fields::parse(body(&fields), width).unwrap();
            for (n, field) in fields.iter().enumerate() {
                assert_eq!(row.get(n), *field, "field {n} of {width}");
            }
        }
    }

    #[test]
    fn malformed_rows_are_errors() {
        let good = body(&[Some(b"abc"), None, Some(b"")]);
        for cut in 0..good.len() {
            assert!(Fields::parse(good.slice(..cut), 3).is_err(), "cut at {cut}");
        }
        for count in [0, 2, 4] {
            assert!(Fields::parse(good.clone(), count).is_err(), "{count} fields");
        }
        for length in [-2, i32::MIN, i32::MAX, 4] {
            let mut bad = good.to_vec();
            bad[..4].copy_from_slice(&i32::to_be_bytes(length));
            let error = Fields::parse(bad.into(), 3).err().expect("a bad length is found");
            assert!(matches!(error, Error::Protocol(_)), "length {length}: {error}");
        }
    }
}
