//! Images without a registry: an OCI archive made of a few files, for `ctr images import`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::error::{At as _, TestbedError};
use crate::namespace::output_of;

/// Writes an image of one layer to `archive`: files with their paths in the image, owned by root, executable.
pub fn write_archive(
    archive: &Path,
    name: &str,
    files: &[(&Path, &str)],
    entrypoint: &[&str],
) -> Result<(), TestbedError> {
    let mut layer = tar::Builder::new(Vec::new());
    for (file, place) in files {
        let content = fs::read(file).at("read", *file)?;
        append(&mut layer, place.trim_start_matches('/'), &content, 0o755).at("add", *file)?;
    }
    let layer = layer.into_inner().at("write", archive)?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    })
    .to_string()
    .into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&layer), "size": layer.len()}],
    })
    .to_string()
    .into_bytes();
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest(&manifest),
            "size": manifest.len(),
            "annotations": {"io.containerd.image.name": name},
        }],
    })
    .to_string();
    let mut out = tar::Builder::new(File::create(archive).at("make", archive)?);
    append(&mut out, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644).at("write", archive)?;
    append(&mut out, "index.json", index.as_bytes(), 0o644).at("write", archive)?;
    for blob in [&layer, &config, &manifest] {
        let place = format!("blobs/{}", digest(blob).replace(':', "/"));
        append(&mut out, &place, blob, 0o644).at("write", archive)?;
    }
    out.into_inner().and_then(|file| file.sync_all()).at("write", archive)
}

/// A program and what it is linked with, each with its place in an image: the program in `/usr/local/bin`, first.
///
/// # Errors
/// A program that is not there, or that the linker cannot list.
pub fn program_files(program: &Path) -> Result<Vec<(PathBuf, String)>, TestbedError> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let mut files = vec![(program.to_owned(), format!("/usr/local/bin/{name}"))];
    // TLS clients want to know whom to trust, before they know that a store is plain HTTP.
    let authorities = PathBuf::from("/etc/ssl/certs/ca-certificates.crt");
    if authorities.exists() {
        files.push((authorities.clone(), authorities.display().to_string()));
    }
    let mut command = Command::new("ldd");
    command.arg(program);
    for line in output_of(command)?.lines() {
        if let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) {
            files.push((fs::canonicalize(path).at("read", path)?, path.to_owned()));
        }
    }
    Ok(files)
}

fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    content: &[u8],
    mode: u32,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, path, content)
}

fn digest(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
