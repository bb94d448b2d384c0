use std::io;
use std::path::{Path, PathBuf};

use object_store::{Certificate, ClientOptions};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// CA certificates that may vouch for a store's certificate, beside those that the system trusts. By default none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaCertificates(Vec<CertificateDer<'static>>);

/// A file that holds no CA certificates that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BadCaFile {
    #[error("the CA certificates in {} cannot be read: {source}; name a file that this process may read", .file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error(
        "{} holds no CA certificate: one begins with the line -----BEGIN CERTIFICATE----- (PEM); write it so, or convert it with `openssl x509 -inform der`",
        .file.display()
    )]
    Empty { file: PathBuf },
    #[error("CA certificate number {number} in {} cannot be used: {why}; write the file again", .file.display())]
    Damaged {
        file: PathBuf,
        /// Which, from 1.
        number: usize,
        why: String,
    },
}

impl CaCertificates {
    /// All certificates of a PEM file; what else is in it (comments, keys) is passed over.
    ///
    /// # Errors
    /// [`BadCaFile`], by the file's name: nothing is taken of a file of which a part cannot be used.
    pub fn read(file: &Path) -> Result<Self, BadCaFile> {
        let file = || file.to_owned();
        let pem = std::fs::read(file()).map_err(|source| BadCaFile::Unreadable { file: file(), source })?;
        let mut trusted = RootCertStore::empty();
        let mut certificates = Vec::new();
        // Some editors put a byte order mark before the first line, which then is none of a certificate's.
        let pem = pem.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&pem);
        for (at, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let damaged = |why: String| BadCaFile::Damaged { file: file(), number: at + 1, why };
            let certificate = certificate.map_err(|error| damaged(error.to_string()))?;
            // What a client would refuse is told here, where its file is known.
            trusted.add(certificate.clone()).map_err(|error| damaged(error.to_string()))?;
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err(BadCaFile::Empty { file: file() });
        }
        Ok(Self(certificates))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the system's are all that is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A client's options with these, beside what they hold.
    pub(crate) fn added_to(&self, options: ClientOptions) -> object_store::Result<ClientOptions> {
        self.0.iter().try_fold(options, |options, certificate| {
            Ok(options.with_root_certificate(Certificate::from_der(certificate)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn authority() -> (String, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.self_signed(&key).unwrap().pem(), key)
    }

    fn read(content: impl AsRef<[u8]>) -> Result<CaCertificates, BadCaFile> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        std::fs::write(&file, content).unwrap();
        CaCertificates::read(&file)
    }

    #[test]
    fn a_bundle_is_read_whole_and_what_is_no_certificate_is_passed_over() {
        let (one, key) = authority();
        let (two, _) = authority();
        let bundle = format!("# ours\n{one}\n{}\n# theirs\r\n{}", key.serialize_pem(), two.replace('\n', "\r\n"));
        assert_eq!(read(format!("\u{feff}{one}")).unwrap().len(), 1, "a byte order mark before the first line");
        let read = read(bundle).unwrap();
        assert_eq!(read.len(), 2);
        assert_ne!(read.0[0], read.0[1]);
        assert!(CaCertificates::default().is_empty());
    }

    #[test]
    fn what_cannot_be_used_is_an_error_that_names_the_file() {
        let (sound, key) = authority();
        let body = sound.lines().nth(1).unwrap();
        let not_base64 = sound.replace(body, "not base64 at all!");
        let cut_off = &sound[..sound.len() / 2];
        let no_certificate = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", &body[..64]);
        for (content, expected) in [
            (String::new(), "holds no CA certificate"),
            ("\n".to_owned(), "holds no CA certificate"),
            ("no PEM".to_owned(), "holds no CA certificate"),
            (key.serialize_pem(), "holds no CA certificate"),
            (not_base64, "number 1"),
            (cut_off.to_owned(), "number 1"),
            (no_certificate.clone(), "number 1"),
            (format!("{sound}{no_certificate}"), "number 2"),
        ] {
            let said = read(&content).unwrap_err().to_string();
            assert!(said.contains("ca.crt") && said.contains(expected), "{said}\n{content}");
        }
        let said = CaCertificates::read(Path::new("/nowhere/ca.crt")).unwrap_err().to_string();
        assert!(said.contains("/nowhere/ca.crt cannot be read"), "{said}");
        assert!(read([0x30, 0x82, 0x01, 0x0a, 0xff]).unwrap_err().to_string().contains("openssl x509 -inform der"));
    }
}
