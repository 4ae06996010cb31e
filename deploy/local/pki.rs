//! Keys and certificates of one control plane, made anew for each.

use std::net::{IpAddr, Ipv4Addr};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

/// The files that the API server and its clients need, in PEM.
pub(crate) struct Pki {
    pub(crate) authority: String,
    pub(crate) server_certificate: String,
    pub(crate) server_key: String,
    /// By which the API server is known to the kubelet.
    pub(crate) client_certificate: String,
    pub(crate) client_key: String,
    pub(crate) accounts_key: String,
    pub(crate) accounts_public_key: String,
}

impl Pki {
    /// An authority, a certificate for servers on 127.0.0.1, one for the API server as a client, and a key pair that signs service account tokens.
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "stheno-local");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "kubernetes.default.svc".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let server_key = KeyPair::generate()?;
        let server_certificate = params.signed_by(&server_key, &authority)?;

        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver-kubelet-client");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client_key = KeyPair::generate()?;
        let client_certificate = params.signed_by(&client_key, &authority)?;

        let accounts = KeyPair::generate()?;
        Ok(Self {
            authority: authority.pem(),
            server_certificate: server_certificate.pem(),
            server_key: server_key.serialize_pem(),
            client_certificate: client_certificate.pem(),
            client_key: client_key.serialize_pem(),
            accounts_key: accounts.serialize_pem(),
            accounts_public_key: accounts.public_key_pem(),
        })
    }
}
