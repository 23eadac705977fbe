//! Parsing of any bytes as a form: a request, or an error with a status from 400 to 499.
#![no_main]

use std::sync::LazyLock;

use ifr::server::fuzzing::read_form;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));

fuzz_target!(|bytes: &[u8]| {
    // With a fixed boundary the fuzzer only has to find the rest of a form.
    let mut body = b"--x\r\nContent-Disposition: form-data; name=\"".to_vec();
    body.extend_from_slice(bytes);
    body.extend_from_slice(b"\r\n--x--\r\n");
    RUNTIME.block_on(async {
        let request = warp::test::request().method("POST").header("content-type", "multipart/form-data; boundary=x");
        let form = request.body(body).filter(&warp::multipart::form()).await.expect("a form");
        if let Err(error) = read_form(form).await {
            assert!(error.status().is_client_error());
        }
    });
});
