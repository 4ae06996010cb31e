//! Certificates and passwords: mTLS of our own service, and a node that wants both for CQL.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use stheno_local::{cassandra, testing};
use stheno_rpc::sidecar::node_state::Phase;
use stheno_rpc::sidecar::sidecar_client::SidecarClient;
use stheno_rpc::sidecar::{CapabilitiesRequest, NodeState};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::ground::{Bucket, Sidecar, phase};

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

/// Points the sidecar at another node and runs a backup there.
async fn on(sidecar: &mut Sidecar, node: &cassandra::Cassandra, keys: &str, name: &str) -> NodeState {
    sidecar.stop().await;
    let shared = crate::ground::cassandra().await;
    let ini = std::fs::read_to_string(&sidecar.ini).unwrap();
    let ini = ini.split("# keys\n").next().unwrap().to_owned();
    let ini = ini
        .replace(shared.yaml().to_str().unwrap(), node.yaml().to_str().unwrap())
        .replace(shared.nodetool().to_str().unwrap(), node.nodetool().to_str().unwrap())
        .replace(&format!("fqdn = {}", shared.ip()), &format!("fqdn = {}", node.ip()));
    std::fs::write(&sidecar.ini, format!("{ini}# keys\n[cassandra]\n{keys}\n")).unwrap();
    sidecar.start().await;
    sidecar.backup(name, false).await
}

#[tokio::test]
async fn a_node_that_wants_certificates_and_a_password() {
    let mut sidecar = Sidecar::launch(Bucket::Local, "").await;
    let (pki, strangers) = (Pki::new(), Pki::new());
    let write = |name: &str, pem: &str| sidecar.run.file(name, pem).unwrap().display().to_string();
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
        state = on(&mut sidecar, &node, &keys(&trust, true, "cassandra"), &format!("sealed-{round}")).await;
        if phase(&state) == Phase::Finished {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
    assert_eq!(phase(&state), Phase::Finished, "{state:?}");

    let state = on(&mut sidecar, &node, &keys(&trust, true, "wrong"), "with-a-wrong-password").await;
    assert_eq!(phase(&state), Phase::Failed);
    assert!(state.reason.starts_with("CQL refuses the user cassandra: "), "{state:?}");
    let state = on(&mut sidecar, &node, &keys(&stranger, true, "cassandra"), "with-a-strange-authority").await;
    assert_eq!(phase(&state), Phase::Failed, "a certificate of another authority was accepted");
    assert!(state.reason.contains("certificate"), "{state:?}");
    let state = on(&mut sidecar, &node, &keys(&trust, false, "cassandra"), "without-a-certificate").await;
    assert_eq!(phase(&state), Phase::Failed, "the node took us without a certificate");
}
