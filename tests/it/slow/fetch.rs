//! Concurrent downloads of the models of one archive.

use std::time::Duration;

use ifr::downloads;

use crate::models_fetch::{Fixture, LOCAL, send, zip_of};
use crate::support::*;

#[test]
#[ignore = "slow"]
fn concurrent_pulls_share_one_archive() {
    let network = relu_network();
    let members: Vec<String> = (0..4).map(|i| format!("m{i}.onnx")).collect();
    let archive = zip_of(&members.iter().map(|m| (m.as_str(), network.as_slice())).collect::<Vec<_>>());
    let host = HttpHost::start(LOCAL, move |request, _, stream| send(request, stream, &archive, usize::MAX, ""));
    for round in 0..40 {
        let fixture = Fixture::new(serde_json::json!({}));
        let entries: serde_json::Map<String, serde_json::Value> = members
            .iter()
            .map(|m| (m.replace(".onnx", ""), serde_json::json!({ "link": host.link(&format!("/p.zip#{m}")) })))
            .collect();
        let names: Vec<String> = entries.keys().cloned().collect();
        std::fs::write(fixture.dir.path().join("models.json"), serde_json::Value::Object(entries).to_string()).unwrap();
        std::thread::scope(|scope| {
            for (index, name) in names.iter().enumerate() {
                let fixture = &fixture;
                scope.spawn(move || {
                    // Alternately concurrent and sequential.
                    std::thread::sleep(Duration::from_micros((round * index * 50) as u64));
                    let pulled = downloads::pull(&fixture.store(), std::slice::from_ref(name), &fixture.options);
                    pulled.unwrap_or_else(|e| panic!("round {round}, {name}: {e}"));
                });
            }
        });
        let left = std::fs::read_dir(fixture.dir.path().join("onnx/.downloads")).unwrap().flatten();
        assert!(left.into_iter().all(|f| f.path().extension().is_some_and(|e| e == "lock")), "the archive is gone");
    }
}
