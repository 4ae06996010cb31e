//! Certificates and passwords: mTLS of our own service, and a node that wants both for CQL.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use stheno_local::run::Run;
use stheno_local::{cassandra, testing};
use stheno_rpc::sidecar::node_state::Phase;
use stheno_rpc::sidecar::sidecar_client::SidecarClient;
use stheno_rpc::sidecar::{CapabilitiesRequest, NodeState};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use super::ground::{Bucket, Sidecar, phase};

/// An authority, and what it signed.
pub(crate) struct Pki {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub(crate) fn authority(&self) -> String {
        self.issuer.pem()
    }

    /// Certificate and key for a name.
    pub(crate) fn signed(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn clients_without_our_authoritys_certificate_stay_outside() {
    let mut sidecar = Sidecar::launch(Bucket::Local, "").await;
    let (pki, strangers) = (Pki::new(), Pki::new());
    let (certificate, key) = pki.signed("sidecar");
    let write = |name: &str, pem: &str| sidecar.run.file(name, pem).unwrap().display().to_string();
    let tls = format!(
        "[grpc]\nenabled = 1\nca_cert = {}\ntls_cert = {}\ntls_key = {}",
        write("ca.crt", &pki.authority()),
        write("tls.crt", &certificate),
        write("tls.key", &key)
    );
    sidecar.stop().await;
    let ini = std::fs::read_to_string(&sidecar.ini).unwrap().replace("[grpc]\nenabled = 1", &tls);
    std::fs::write(&sidecar.ini, ini).unwrap();
    sidecar.start().await;

    let config =
        || ClientTlsConfig::new().domain_name("sidecar").ca_certificate(Certificate::from_pem(pki.authority()));
    let identity = |pki: &Pki| {
        let (certificate, key) = pki.signed("client");
        Identity::from_pem(certificate, key)
    };
    let ask = async |scheme: &str, tls: Option<ClientTlsConfig>| {
        let endpoint = Channel::from_shared(format!("{scheme}://{}", sidecar.address())).unwrap();
        let endpoint = match tls {
            Some(tls) => endpoint.tls_config(tls).unwrap(),
            None => endpoint,
        };
        let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
        let asked = SidecarClient::new(channel).capabilities(CapabilitiesRequest {}).await;
        asked.map(|answer| answer.into_inner().node).map_err(|status| status.to_string())
    };
    assert!(ask("https", Some(config().identity(identity(&pki)))).await.is_ok());
    assert!(ask("https", Some(config().identity(identity(&strangers)))).await.is_err());
    assert!(ask("https", Some(config())).await.is_err());
    assert!(ask("http", None).await.is_err());
}

/// Runs a backup of a node by a sidecar of its own that has these keys.
async fn on(node: &cassandra::Cassandra, keys: &str, name: &str) -> NodeState {
    let mut sidecar = Sidecar::launch_beside(node, Bucket::Local, "", &format!("[cassandra]\n{keys}")).await;
    let state = sidecar.backup(name, false).await;
    sidecar.stop().await;
    state
}

#[tokio::test]
async fn a_node_that_wants_certificates_and_a_password() {
    let (pki, strangers, folder) = (Pki::new(), Pki::new(), Run::temporary().unwrap());
    let write = |name: &str, pem: &str| folder.file(name, pem).unwrap().display().to_string();
    // No name in it is the node's address: pods are reached by addresses that no certificate knows.
    let (certificate, key) = pki.signed("cassandra");
    let store = write("node.pem", &format!("{key}{certificate}{}", pki.authority()));
    let trust = write("ca.pem", &pki.authority());
    let extra = format!(
        "authenticator: PasswordAuthenticator\nclient_encryption_options:\n  enabled: true\n  optional: false\n  \
         require_client_auth: true\n  ssl_context_factory:\n    class_name: \
         org.apache.cassandra.security.PEMBasedSslContextFactory\n  keystore: {store}\n  truststore: {trust}\n"
    );
    let node = testing::cassandra_with(&cassandra::Options { extra, ..Default::default() }).await.unwrap();
    let (certificate, key) = pki.signed("medusa");
    let (own, own_key) = (write("medusa.crt", &certificate), write("medusa.key", &key));
    let stranger = write("strangers.pem", &strangers.authority());
    let keys = |authority: &str, identity: bool, password: &str| {
        let identity = if identity { format!("usercert = {own}\nuserkey = {own_key}\n") } else { String::new() };
        format!("certfile = {authority}\n{identity}cql_username = cassandra\ncql_password = {password}")
    };
    // The default superuser is made some seconds after CQL answers.
    let mut state = NodeState::default();
    for round in 0..10 {
        state = on(&node, &keys(&trust, true, "cassandra"), &format!("sealed-{round}")).await;
        if phase(&state) == Phase::Finished {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
    assert_eq!(phase(&state), Phase::Finished, "{state:?}");

    // Each of these tries for as long as a sidecar has patience with a node: side by side.
    let keys = [keys(&trust, true, "wrong"), keys(&stranger, true, "cassandra"), keys(&trust, false, "cassandra")];
    let (wrong, strange, without) = tokio::join!(
        on(&node, &keys[0], "with-a-wrong-password"),
        on(&node, &keys[1], "with-a-strange-authority"),
        on(&node, &keys[2], "without-a-certificate"),
    );
    assert_eq!(phase(&wrong), Phase::Failed);
    assert!(wrong.reason.starts_with("CQL refuses the user cassandra: "), "{wrong:?}");
    assert_eq!(phase(&strange), Phase::Failed, "a certificate of another authority was accepted");
    assert!(strange.reason.contains("certificate"), "{strange:?}");
    assert_eq!(phase(&without), Phase::Failed, "the node took us without a certificate");
}
