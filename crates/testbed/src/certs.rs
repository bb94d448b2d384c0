//! The cluster's certificate authority and what it signs.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::error::{At as _, TestbedError};

/// A certificate authority, and the folder that its files are in.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub(crate) fn new(folder: &Path) -> Result<Self, TestbedError> {
        fs::create_dir_all(folder).at("make", folder)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "testbed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key)?;
        let authority = Self { issuer: Issuer::new(params, key), folder: folder.to_owned() };
        write(&authority.certificate(), &certificate.pem())?;
        Ok(authority)
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A certificate for a server at these names and addresses, or for a client that is a user of a group.
    pub(crate) fn sign(&self, user: &str, group: Option<&str>, names: &[&str]) -> Result<Identity, TestbedError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let file = |ending: &str| self.folder.join(format!("{}.{ending}", user.replace(':', "-")));
        let identity = Identity { certificate: file("crt"), key: file("key") };
        write(&identity.certificate, &certificate.pem())?;
        write(&identity.key, &key.serialize_pem())?;
        Ok(identity)
    }

    /// A key pair that signs service accounts' tokens: the private and the public half.
    pub(crate) fn token_key(&self) -> Result<(PathBuf, PathBuf), TestbedError> {
        let key = KeyPair::generate()?;
        let (private, public) = (self.folder.join("tokens.key"), self.folder.join("tokens.pub"));
        write(&private, &key.serialize_pem())?;
        write(&public, &key.public_key_pem())?;
        Ok((private, public))
    }

    pub(crate) fn kubeconfig(&self, user: &str, group: &str, server: &str) -> Result<PathBuf, TestbedError> {
        let Identity { certificate, key } = self.sign(user, Some(group), &[])?;
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": {"server": server, "certificate-authority": self.certificate()}}],
            "users": [{"name": user, "user": {"client-certificate": certificate, "client-key": key}}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
            "current-context": "testbed",
        });
        let path = self.folder.join(format!("{}.kubeconfig", user.replace(':', "-")));
        write(&path, &config.to_string())?;
        Ok(path)
    }
}

fn write(path: &Path, text: &str) -> Result<(), TestbedError> {
    fs::write(path, text).at("write", path)
}
