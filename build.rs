//! Packs Swagger UI for `/docs`: takes the six files that the page loads from the vendored release, compressed with gzip.
//!
//! They add half a megabyte to the program. Uncompressed they are four times as large, and the release has as much again
//! for other ways of loading.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    swagger::pack()?;
    Ok(())
}

mod swagger {
    use flate2::{Compression, write::GzEncoder};
    use std::error::Error;
    use std::fs::{self, File};
    use std::io::{self, Cursor};
    use std::path::PathBuf;
    use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
    use zip::ZipArchive;

    /// The files of the release that `src/server/pages/swagger.rs` includes.
    const FILES: [&str; 6] = [
        "favicon-16x16.png",
        "favicon-32x32.png",
        "index.css",
        "swagger-ui-bundle.js",
        "swagger-ui-standalone-preset.js",
        "swagger-ui.css",
    ];

    /// Writes `OUT_DIR/swagger/NAME.gz` for each file of [`FILES`], reproducibly.
    pub fn pack() -> Result<(), Box<dyn Error>> {
        let target = PathBuf::from(std::env::var("OUT_DIR")?).join("swagger");
        fs::create_dir_all(&target)?;
        let mut release = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
        // The top directory is named after the version.
        let first = release.name_for_index(0).ok_or("the release is empty")??;
        let top = first.split('/').next().unwrap_or_default().to_owned();
        for name in FILES {
            let mut file = release.by_name(&format!("{top}/dist/{name}"))?;
            let packed = File::create(target.join(format!("{name}.gz")))?;
            let mut packer = GzEncoder::new(packed, Compression::best());
            io::copy(&mut file, &mut packer)?;
            packer.finish()?;
        }
        Ok(())
    }
}
