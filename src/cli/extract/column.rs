//! One column of a Parquet file, a row group at a time.
//!
//! Parquet stores the present values and two levels for each place: the definition level counts the defined parts of
//! the path from the row to the value, the repetition level is 1 where a value continues a list. This module covers
//! values, optional values and optional lists, which is all that the schema needs: the `arrow` crate would add
//! megabytes to the program.

use std::io::Write;

use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result};
use parquet::file::writer::SerializedRowGroupWriter;

/// Definition levels of `optional group { repeated group list { optional float item; } }`.
const NO_LIST: i16 = 0;
const EMPTY_LIST: i16 = 1;
const ITEM: i16 = 3;

/// The values of a column. Use only the `append` function for the column's type in the schema.
pub(super) struct Column<T: DataType> {
    values: Vec<T::T>,
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

impl<T: DataType> Default for Column<T> {
    fn default() -> Self {
        Column { values: vec![], definition: vec![], repetition: vec![] }
    }
}

impl<T: DataType> Column<T> {
    /// Adds a row to a required column.
    pub fn append(&mut self, value: T::T) {
        self.values.push(value);
    }

    /// Adds a row to an optional column.
    pub fn append_option(&mut self, value: Option<T::T>) {
        self.definition.push(value.is_some().into());
        self.values.extend(value);
    }

    /// Adds a row to an optional list of items that are all present.
    pub fn append_list(&mut self, items: Option<&[T::T]>) {
        let Some(items @ [_, rest @ ..]) = items else {
            self.definition.push(if items.is_some() { EMPTY_LIST } else { NO_LIST });
            self.repetition.push(0);
            return;
        };
        self.definition.extend(items.iter().map(|_| ITEM));
        self.repetition.push(0);
        self.repetition.extend(rest.iter().map(|_| 1));
        self.values.extend_from_slice(items);
    }

    /// Writes the rows as the next column of the group, and clears them.
    pub fn write<W: Write + Send>(&mut self, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<()> {
        let column = group.next_column()?;
        let mut column = column.ok_or_else(|| ParquetError::General("more columns than the schema has".into()))?;
        column.typed::<T>().write_batch(&self.values, levels(&self.definition), levels(&self.repetition))?;
        self.values.clear();
        self.definition.clear();
        self.repetition.clear();
        column.close()
    }
}

/// The levels of a column; required columns have none.
fn levels(levels: &[i16]) -> Option<&[i16]> {
    (!levels.is_empty()).then_some(levels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::data_type::{FloatType, Int32Type};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    #[test]
    fn rows_come_back_with_and_without_a_value() {
        let schema = "message rows {
            required int32 id;
            optional int32 size;
            optional group items (LIST) { repeated group list { optional float item; } }
        }";
        let schema = parse_message_type(schema).unwrap();
        let mut writer = SerializedFileWriter::new(Vec::new(), schema.into(), Default::default()).unwrap();
        let (mut id, mut size, mut items) = <(Column<Int32Type>, Column<Int32Type>, Column<FloatType>)>::default();
        let rows = [(None, None), (Some(7), Some(&[][..])), (None, Some(&[0.5, 1.5])), (Some(8), Some(&[2.5]))];
        // Two groups: the second has nothing of the first.
        for group in rows.chunks(2) {
            for (index, (number, list)) in group.iter().enumerate() {
                id.append(index as i32);
                size.append_option(*number);
                items.append_list(*list);
            }
            let mut group = writer.next_row_group().unwrap();
            id.write(&mut group).unwrap();
            size.write(&mut group).unwrap();
            items.write(&mut group).unwrap();
            assert!(size.write(&mut group).is_err(), "there is no fourth column");
            group.close().unwrap();
        }
        let reader = SerializedFileReader::new(bytes::Bytes::from(writer.into_inner().unwrap())).unwrap();
        let read: Vec<String> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(
            read,
            [
                "{id: 0, size: null, items: null}",
                "{id: 1, size: 7, items: []}",
                "{id: 0, size: null, items: [0.5, 1.5]}",
                "{id: 1, size: 8, items: [2.5]}",
            ]
        );
    }
}
