//! Parquet output: one row per face, made from the lines of the journal when a run is complete.
//!
//! A picture without a face, or that failed, has one row without values in the columns of the face, so that no picture
//! is missing.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArrayType, DoubleType, FloatType, Int32Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use serde_json::Value;

use super::column::Column;
use super::journal::JournalError;
use super::record::{PictureStatus, Record};

/// The schema of the file, in the language of the Parquet format.
const SCHEMA: &str = "
    message faces {
        required binary path (STRING);
        required binary status (STRING);
        optional binary error (STRING);
        required double took_ms;
        optional int32 width (INTEGER(32, false));
        optional int32 height (INTEGER(32, false));
        required int32 faces (INTEGER(32, false));
        optional int32 face (INTEGER(32, false));
        optional float x1;
        optional float y1;
        optional float x2;
        optional float y2;
        optional float prob;
        optional group landmarks (LIST) { repeated group list { optional float item; } }
        optional float norm;
        optional group vec (LIST) { repeated group list { optional float item; } }
        optional int32 gender (INTEGER(8, false));
        optional int32 age (INTEGER(32, false));
        optional boolean mask;
        optional float mask_prob;
        optional float liveness;
    }";

/// Minimum number of rows in a full row group: 2 MiB of embeddings, which readers and the writer hold in memory.
const GROUP_ROWS: usize = 1024;
/// Bytes of a page, which the writer holds in addition to the rows.
const PAGE_BYTES: usize = 128 << 10;

/// Writes the records of a file of lines as Parquet, with `settings` in the metadata under the key `ifr`.
pub(super) fn convert(records: &Path, target: &Path, settings: &Value) -> Result<(), JournalError> {
    let wrong = |source: serde_json::Error| JournalError::Json { path: records.into(), source };
    let failed = |source: ParquetError| JournalError::Parquet { path: target.into(), source };
    let file = File::create(target).map_err(JournalError::at(target))?;
    let schema = parse_message_type(SCHEMA).map_err(failed)?;
    let mut writer = SerializedFileWriter::new(file, schema.into(), Arc::new(properties(settings))).map_err(failed)?;
    let mut rows = Rows::default();
    let mut lines = BufReader::with_capacity(1 << 16, File::open(records).map_err(JournalError::at(records))?);
    let mut line = vec![];
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line).map_err(JournalError::at(records))?;
        if read > 0 {
            rows.add(&serde_json::from_slice::<Record>(&line).map_err(wrong)?);
        }
        if rows.count >= GROUP_ROWS || (read == 0 && rows.count > 0) {
            rows.write(&mut writer).map_err(failed)?;
        }
        if read == 0 {
            break;
        }
    }
    writer.close().map_err(failed)?;
    Ok(())
}

fn properties(settings: &Value) -> WriterProperties {
    // Embeddings neither repeat nor compress: a dictionary and compression would only cost time.
    let embedding = ColumnPath::new(vec!["vec".into(), "list".into(), "item".into()]);
    WriterProperties::builder()
        .set_created_by(concat!("ifr ", env!("CARGO_PKG_VERSION")).into())
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_compression(Compression::SNAPPY)
        .set_column_compression(embedding.clone(), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(embedding, false)
        .set_key_value_metadata(Some(vec![KeyValue::new("ifr".into(), settings.to_string())]))
        .build()
}

/// The rows of the next row group.
#[derive(Default)]
struct Rows {
    count: usize,
    path: Column<ByteArrayType>,
    status: Column<ByteArrayType>,
    error: Column<ByteArrayType>,
    took_ms: Column<DoubleType>,
    width: Column<Int32Type>,
    height: Column<Int32Type>,
    faces: Column<Int32Type>,
    face: Column<Int32Type>,
    bbox: [Column<FloatType>; 4],
    prob: Column<FloatType>,
    landmarks: Column<FloatType>,
    norm: Column<FloatType>,
    vec: Column<FloatType>,
    gender: Column<Int32Type>,
    age: Column<Int32Type>,
    mask: Column<BoolType>,
    mask_prob: Column<FloatType>,
    liveness: Column<FloatType>,
}

impl Rows {
    fn add(&mut self, record: &Record) {
        let faces: Vec<_> = record.faces.iter().enumerate().map(Some).collect();
        let rows = if faces.is_empty() { &[None][..] } else { &faces[..] };
        for row in rows {
            self.count += 1;
            self.path.append(record.path.as_str().into());
            self.status.append(match record.status {
                PictureStatus::Ok => "ok".into(),
                PictureStatus::Failed => "failed".into(),
            });
            self.error.append_option(record.error.as_deref().map(Into::into));
            self.took_ms.append(record.took_ms);
            self.width.append_option(record.width.map(unsigned));
            self.height.append_option(record.height.map(unsigned));
            self.faces.append(record.faces.len() as i32);
            self.face.append_option(row.map(|(index, _)| index as i32));
            let face = row.map(|(_, face)| face);
            for (i, column) in self.bbox.iter_mut().enumerate() {
                column.append_option(face.map(|f| f.bbox[i]));
            }
            self.prob.append_option(face.map(|f| f.prob));
            self.landmarks.append_list(face.map(|f| f.landmarks.as_flattened()));
            self.norm.append_option(face.and_then(|f| f.norm));
            self.vec.append_list(face.and_then(|f| f.vec.as_deref()));
            self.gender.append_option(face.and_then(|f| f.gender).map(i32::from));
            self.age.append_option(face.and_then(|f| f.age).map(unsigned));
            self.mask.append_option(face.and_then(|f| f.mask));
            self.mask_prob.append_option(face.and_then(|f| f.mask_prob));
            self.liveness.append_option(face.and_then(|f| f.liveness));
        }
    }

    /// Writes the rows as a group of the file, and clears them.
    fn write(&mut self, file: &mut SerializedFileWriter<File>) -> Result<()> {
        self.count = 0;
        let mut group = file.next_row_group()?;
        let [x1, y1, x2, y2] = &mut self.bbox;
        // In the order of the schema.
        self.path.write(&mut group)?;
        self.status.write(&mut group)?;
        self.error.write(&mut group)?;
        self.took_ms.write(&mut group)?;
        self.width.write(&mut group)?;
        self.height.write(&mut group)?;
        self.faces.write(&mut group)?;
        self.face.write(&mut group)?;
        x1.write(&mut group)?;
        y1.write(&mut group)?;
        x2.write(&mut group)?;
        y2.write(&mut group)?;
        self.prob.write(&mut group)?;
        self.landmarks.write(&mut group)?;
        self.norm.write(&mut group)?;
        self.vec.write(&mut group)?;
        self.gender.write(&mut group)?;
        self.age.write(&mut group)?;
        self.mask.write(&mut group)?;
        self.mask_prob.write(&mut group)?;
        self.liveness.write(&mut group)?;
        group.close()?;
        Ok(())
    }
}

/// Parquet stores unsigned integers in signed ones with the same bits; the schema declares them.
fn unsigned(value: u32) -> i32 {
    value.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::super::record::FaceRecord;
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    #[test]
    fn every_face_is_a_row_and_every_picture_is_there() {
        let face = |n: f32, dimension: usize| FaceRecord {
            bbox: [n, n + 1.0, n + 2.0, n + 3.0],
            landmarks: [[n, 0.5]; 5],
            prob: 0.75,
            norm: Some(n),
            vec: Some((0..dimension).map(|i| n + i as f32 / 3.0).collect()),
            gender: None,
            age: Some(n as u32),
            mask: Some(true),
            mask_prob: None,
            liveness: None,
        };
        let mut records = vec![Record::failed("bad.jpg".into(), 1.0, "no picture".into())];
        for i in 0..3_000 {
            let mut record = Record::failed(format!("{i}.jpg"), 2.0, String::new());
            (record.status, record.error) = (PictureStatus::Ok, None);
            (record.width, record.height) = (Some(640), Some(480));
            record.faces = (0..i % 7).map(|k| face((i * 10 + k) as f32, 8)).collect();
            records.push(record);
        }
        let dir = tempfile::tempdir().unwrap();
        let (lines, target) = (dir.path().join("records.jsonl"), dir.path().join("faces.parquet"));
        std::fs::write(&lines, records.iter().flat_map(|r| r.line().unwrap()).collect::<Vec<u8>>()).unwrap();
        convert(&lines, &target, &serde_json::json!({"rec_name": "mobilefacenet"})).unwrap();

        let reader = SerializedFileReader::new(File::open(&target).unwrap()).unwrap();
        let metadata = reader.metadata();
        assert!(metadata.num_row_groups() > 1);
        let said = metadata.file_metadata().key_value_metadata().unwrap();
        assert!(
            said.iter().any(|kv| kv.key == "ifr" && kv.value.as_deref() == Some(r#"{"rec_name":"mobilefacenet"}"#))
        );
        let mut rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
        for record in &records {
            for index in 0..record.faces.len().max(1) {
                let row = rows.next().unwrap();
                assert_eq!(row.get_string(0).unwrap(), &record.path);
                assert_eq!(row.get_uint(6).unwrap() as usize, record.faces.len());
                let Some(face) = record.faces.get(index) else {
                    assert!(row.get_uint(7).is_err() && row.get_float(12).is_err() && row.get_list(15).is_err());
                    continue;
                };
                assert_eq!(row.get_uint(7).unwrap() as usize, index);
                assert_eq!([8, 9, 10, 11].map(|c| row.get_float(c).unwrap()), face.bbox);
                assert_eq!(row.get_float(14).unwrap(), face.norm.unwrap());
                let vec: Vec<f32> = row.get_list(15).unwrap().elements().iter().map(as_float).collect();
                assert_eq!(&vec, face.vec.as_ref().unwrap());
                assert_eq!(row.get_list(13).unwrap().len(), 10);
                assert!(row.get_ubyte(16).is_err() && row.get_bool(18).unwrap());
                assert_eq!(row.get_uint(17).unwrap(), face.age.unwrap());
            }
        }
        assert!(rows.next().is_none());
    }

    fn as_float(field: &parquet::record::Field) -> f32 {
        match field {
            parquet::record::Field::Float(value) => *value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_pictures_give_an_empty_table() {
        let dir = tempfile::tempdir().unwrap();
        let (lines, target) = (dir.path().join("records.jsonl"), dir.path().join("faces.parquet"));
        std::fs::write(&lines, b"").unwrap();
        convert(&lines, &target, &Value::Null).unwrap();
        let reader = SerializedFileReader::new(File::open(&target).unwrap()).unwrap();
        assert_eq!(reader.get_row_iter(None).unwrap().count(), 0);
        assert_eq!(reader.metadata().file_metadata().schema_descr().root_schema().get_fields().len(), 21);
    }
}
