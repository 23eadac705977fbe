//! Parquet output: a row for each face, made from the journal's lines when a run is complete.
//!
//! A picture without a face, or that failed, has one row with nothing in the columns of the face, so every picture is there.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Float32Builder, Float64Builder, ListBuilder, StringBuilder, UInt8Builder, UInt32Builder,
};
use arrow_array::{ArrayRef, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use serde_json::Value;

use super::journal::JournalError;
use super::record::{Record, Status};

/// Rows that are turned into columns at once.
const BATCH_ROWS: usize = 1024;
/// Rows in a row group: some 16 MiB of embeddings, which is what a reader holds at least and a writer at most.
const GROUP_ROWS: usize = 8192;

/// Writes the records of a file of lines as Parquet. `settings` go into the file's metadata under the key `ifr`.
pub(super) fn convert(records: &Path, target: &Path, settings: &Value) -> Result<(), JournalError> {
    let wrong = |detail: String| JournalError::Content { path: records.into(), detail };
    let file = File::create(target).map_err(JournalError::at(target))?;
    let mut rows = Rows::default();
    // The schema is that of no rows at all.
    let schema = rows.take().map_err(|e| wrong(e.to_string()))?.schema();
    let failed =
        |e: parquet::errors::ParquetError| JournalError::Content { path: target.into(), detail: e.to_string() };
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties(settings))).map_err(failed)?;
    let mut lines = BufReader::with_capacity(1 << 20, File::open(records).map_err(JournalError::at(records))?);
    let mut line = vec![];
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line).map_err(JournalError::at(records))?;
        if read > 0 {
            rows.add(&serde_json::from_slice::<Record>(&line).map_err(|e| wrong(e.to_string()))?);
        }
        if rows.count >= BATCH_ROWS || (read == 0 && rows.count > 0) {
            writer.write(&rows.take().map_err(|e| wrong(e.to_string()))?).map_err(failed)?;
        }
        if read == 0 {
            break;
        }
    }
    writer.close().map_err(failed)?;
    Ok(())
}

fn properties(settings: &Value) -> WriterProperties {
    // Embeddings are noise to a compressor and never repeat: dictionary and compression would cost time for nothing.
    let embedding = ColumnPath::new(vec!["vec".into(), "list".into(), "item".into()]);
    WriterProperties::builder()
        .set_created_by(concat!("ifr ", env!("CARGO_PKG_VERSION")).into())
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_compression(Compression::SNAPPY)
        .set_column_compression(embedding.clone(), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(embedding, false)
        .set_key_value_metadata(Some(vec![KeyValue::new("ifr".into(), settings.to_string())]))
        .build()
}

/// Rows on their way into columns.
#[derive(Default)]
struct Rows {
    count: usize,
    path: StringBuilder,
    status: StringBuilder,
    error: StringBuilder,
    took_ms: Float64Builder,
    width: UInt32Builder,
    height: UInt32Builder,
    faces: UInt32Builder,
    face: UInt32Builder,
    bbox: [Float32Builder; 4],
    prob: Float32Builder,
    landmarks: ListBuilder<Float32Builder>,
    norm: Float32Builder,
    vec: ListBuilder<Float32Builder>,
    gender: UInt8Builder,
    age: UInt32Builder,
    mask: BooleanBuilder,
    mask_prob: Float32Builder,
    liveness: Float32Builder,
}

impl Rows {
    fn add(&mut self, record: &Record) {
        let faces: Vec<_> = record.faces.iter().enumerate().map(Some).collect();
        let rows = if faces.is_empty() { &[None][..] } else { &faces[..] };
        for row in rows {
            self.count += 1;
            self.path.append_value(&record.path);
            self.status.append_value(match record.status {
                Status::Ok => "ok",
                Status::Failed => "failed",
            });
            self.error.append_option(record.error.as_ref());
            self.took_ms.append_value(record.took_ms);
            self.width.append_option(record.width);
            self.height.append_option(record.height);
            self.faces.append_value(record.faces.len() as u32);
            self.face.append_option(row.map(|(index, _)| index as u32));
            let face = row.map(|(_, face)| face);
            for (i, column) in self.bbox.iter_mut().enumerate() {
                column.append_option(face.map(|f| f.bbox[i]));
            }
            self.prob.append_option(face.map(|f| f.prob));
            append_list(&mut self.landmarks, face.map(|f| f.landmarks.as_flattened()));
            self.norm.append_option(face.and_then(|f| f.norm));
            append_list(&mut self.vec, face.and_then(|f| f.vec.as_deref()));
            self.gender.append_option(face.and_then(|f| f.gender));
            self.age.append_option(face.and_then(|f| f.age));
            self.mask.append_option(face.and_then(|f| f.mask));
            self.mask_prob.append_option(face.and_then(|f| f.mask_prob));
            self.liveness.append_option(face.and_then(|f| f.liveness));
        }
    }

    /// The rows as columns; there are none afterwards.
    fn take(&mut self) -> Result<RecordBatch, arrow_schema::ArrowError> {
        self.count = 0;
        let [x1, y1, x2, y2] = &mut self.bbox;
        let columns: [(&str, ArrayRef, bool); 21] = [
            ("path", Arc::new(self.path.finish()), false),
            ("status", Arc::new(self.status.finish()), false),
            ("error", Arc::new(self.error.finish()), true),
            ("took_ms", Arc::new(self.took_ms.finish()), false),
            ("width", Arc::new(self.width.finish()), true),
            ("height", Arc::new(self.height.finish()), true),
            ("faces", Arc::new(self.faces.finish()), false),
            ("face", Arc::new(self.face.finish()), true),
            ("x1", Arc::new(x1.finish()), true),
            ("y1", Arc::new(y1.finish()), true),
            ("x2", Arc::new(x2.finish()), true),
            ("y2", Arc::new(y2.finish()), true),
            ("prob", Arc::new(self.prob.finish()), true),
            ("landmarks", Arc::new(self.landmarks.finish()), true),
            ("norm", Arc::new(self.norm.finish()), true),
            ("vec", Arc::new(self.vec.finish()), true),
            ("gender", Arc::new(self.gender.finish()), true),
            ("age", Arc::new(self.age.finish()), true),
            ("mask", Arc::new(self.mask.finish()), true),
            ("mask_prob", Arc::new(self.mask_prob.finish()), true),
            ("liveness", Arc::new(self.liveness.finish()), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns)
    }
}

fn append_list(column: &mut ListBuilder<Float32Builder>, values: Option<&[f32]>) {
    if let Some(values) = values {
        column.values().append_slice(values);
    }
    column.append(values.is_some());
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
            (record.status, record.error) = (Status::Ok, None);
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
